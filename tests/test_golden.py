"The library against the recorded vectors of the official code, one item a case; and the runner itself"
import json, re, shutil, subprocess, sys
from pathlib import Path
import pytest
from golden import check_of, checks, main, run_case
from safetensors.torch import load_file, save_file

GOLDEN = Path(__file__).parents[2]/'shared'/'golden'
RUNNER = Path(__file__).parent/'golden.py'
KNOWN = checks()
CASES = [p for p in sorted(GOLDEN.glob('*.json')) if check_of(json.loads(p.read_text()).get('name', p.stem), KNOWN)]
needs_vectors = pytest.mark.skipif(not GOLDEN.is_dir(), reason=f'the recorded vectors are not at {GOLDEN}')

@needs_vectors
@pytest.mark.parametrize('path', CASES or [None], ids=lambda p: p.stem if p else 'none')
def test_recorded_case(path):
    results, reason = run_case(path, KNOWN)
    assert not reason, reason
    assert all(r.ok for r in results), [(r.quantity, r.error, r.tol) for r in results if not r.ok]

@pytest.fixture
def run(capsys):
    "What the runner prints, as its last words and its code"
    def run(*args):
        with pytest.raises(SystemExit) as e: main([str(a) for a in args])
        return e.value.code, *capsys.readouterr()
    return run

@needs_vectors
def test_runner_says_pass_fail_and_unknown(tmp_path, run):
    shutil.copy(GOLDEN/'laion_aesthetic.json', tmp_path); data = load_file(GOLDEN/'laion_aesthetic.safetensors')
    save_file(data, tmp_path/'laion_aesthetic.safetensors')
    good = subprocess.run([sys.executable, str(RUNNER), tmp_path], capture_output=True, text=True)
    assert good.returncode == 0, good.stdout + good.stderr
    assert re.search(r'^laion_aesthetic  out64\.rewards  \S+  1e-08  pass$', good.stdout, re.M)
    (tmp_path/'no_such_model.json').write_text('{}')
    code, said, _ = run(tmp_path); assert code == 1 and 'no_such_model  UNKNOWN' in said
    assert not run(tmp_path, '--known-only')[0]
    data['out64.rewards'] = data['out64.rewards']*(1 + 1e-6); save_file(data, tmp_path/'laion_aesthetic.safetensors')
    code, said, _ = run(tmp_path, '--known-only'); assert code == 1 and said.count('FAIL') == 2     # its line and the sum

def test_runner_refuses_a_folder_without_cases(tmp_path, run):
    assert 'holds no case' in run(tmp_path)[2] and 'not a folder' in run(tmp_path/'nowhere')[2]
