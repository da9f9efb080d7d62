"""The blind test where people take it: the widget in a real kernel, and page and widget in a browser, clicked at the width of a desk and of a phone.

What needs a browser is skipped where there is no Chromium with its driver (Debian: apt-get install chromium chromium-driver);
the widget in a browser also needs JupyterLab (pip install jupyterlab). STUDY_SCREENSHOTS=FOLDER keeps pictures.
"""
import base64, json, os, shutil, subprocess, sys, time, urllib.error, urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tools.notebooks import ROOT
from vader_nb.evaluate.degradations import blur
from vader_nb.evaluate.folders import find_clips, write_frames
from vader_nb.evaluate.study import QUESTIONS, make_study, plan_trials, read_answers
from vader_nb.evaluate.study_page import read_key, read_page_answers, write_page
from vader_nb.world import render

CAPTIONS = ['a red circle moving left over sand', 'a blue square moving up over sea', 'a yellow <b>cross</b> & "more" growing over night']
browser = pytest.mark.skipif(not (shutil.which('chromium') and shutil.which('chromedriver')), reason='no chromium with chromedriver')
lab = pytest.mark.skipif(not (shutil.which('jupyter-lab') or os.environ.get('JUPYTER_LAB')), reason='no jupyter-lab')

@pytest.fixture(scope='module')
def videos(tmp_path_factory):
    "Two folders of three videos: blurred, and as rendered"
    d = tmp_path_factory.mktemp('study')
    sharp = render([CAPTIONS[0], CAPTIONS[1], 'a yellow cross growing over night'], torch.Generator().manual_seed(0), vividness=1., haze=0.)[0]
    for side, x in dict(before=blur(sharp, 1.), after=sharp).items():
        for i, v in enumerate(x): write_frames(d/side/f'{i:03}', v)
        (d/side/'prompts.json').write_text(json.dumps({f'{i:03}': c for i, c in enumerate(CAPTIONS)}))
    return d

@pytest.fixture(scope='module')
def study(videos): return make_study(find_clips(videos/'before'), find_clips(videos/'after'), checks=1)

# A browser, through the protocol of its driver

class Page:
    "A window of a headless Chromium"
    def __init__(self, port, downloads, size):
        self.base = f'http://127.0.0.1:{port}'
        args = ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage', f'--window-size={size[0]},{size[1]}', '--hide-scrollbars']
        options = dict(args=args, binary=shutil.which('chromium'), prefs={'download.default_directory': str(downloads), 'download.prompt_for_download': False})
        if size[0] < 500: options['mobileEmulation'] = dict(deviceMetrics=dict(width=size[0], height=size[1], pixelRatio=2))
        wanted = dict(capabilities=dict(alwaysMatch={'browserName': 'chrome', 'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL'}}))
        self.base += '/session/' + self._ask('/session', wanted)['sessionId']

    def _ask(self, path, data=None, method=None):
        request = urllib.request.Request(self.base + path, None if data is None else json.dumps(data).encode(), {'Content-Type': 'application/json'}, method=method)
        try: return json.load(urllib.request.urlopen(request, timeout=120))['value']
        except urllib.error.HTTPError as e: raise AssertionError(e.read().decode()[:500]) from None

    def open(self, address): self._ask('/url', dict(url=address))
    def reload(self): self._ask('/refresh', {})
    def run(self, script, *args): return self._ask('/execute/sync', dict(script=script, args=list(args)))
    def find(self, css): return self._ask('/element', {'using': 'css selector', 'value': css})
    def click(self, css): self._ask(f'/element/{list(self.find(css).values())[0]}/click', {})
    def type(self, css, text): self._ask(f'/element/{list(self.find(css).values())[0]}/value', dict(text=text))
    def key(self, key):
        keys = [dict(type=t, value=key) for t in ('keyDown', 'keyUp')]
        self._ask('/actions', dict(actions=[dict(type='key', id='keys', actions=keys)]))
    def log(self): return [e['message'] for e in self._ask('/se/log', dict(type='browser')) if e['level'] == 'SEVERE']
    def picture(self, name):
        if folder := os.environ.get('STUDY_SCREENSHOTS'):
            Path(folder).mkdir(parents=True, exist_ok=True)
            Path(folder, name).write_bytes(base64.b64decode(self._ask('/screenshot')))
    def close(self): self._ask('', method='DELETE')

def until(what, seconds=60):
    "Wait until something is true"
    end = time.time() + seconds
    while time.time() < end:
        if found := what(): return found
        time.sleep(.2)
    raise AssertionError(f'nothing within {seconds} s')

@contextmanager
def window(downloads, size, port):
    driver = subprocess.Popen(['chromedriver', f'--port={port}'], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        def ready():
            try: return json.load(urllib.request.urlopen(f'http://127.0.0.1:{port}/status', timeout=5))['value']['ready']
            except OSError: return False
        until(ready)
        page = Page(port, downloads, size)
        try: yield page
        finally: page.close()
    finally:
        driver.terminate()
        driver.wait()

SHOWN = 'return {question: at("question").textContent, prompt: at("prompt").textContent, count: at("count").textContent, bold: at("prompt").querySelectorAll("*").length,' \
        ' playing: [videoA, videoB].map(v => v.readyState > 1 && v.videoWidth), a: steps[answers.length] ? steps[answers.length].sides[0] : null}'

@browser
@pytest.mark.parametrize('name, size, port', [('desk', (1280, 900), 9551), ('phone', (390, 800), 9552)])
def test_page(study, tmp_path, name, size, port):
    "Clicked and typed through, reloaded in the middle; the file that is downloaded holds what was said"
    write_page(study, tmp_path/'out', 'Which video is better?')
    key, said = read_key(tmp_path/'out'/'key.json', study), []
    with window(tmp_path, size, port) as page:
        page.open((tmp_path/'out'/'page.html').as_uri())
        page.picture(f'page-{name}-start.png')
        page.type('#name', '<b>')
        page.click('#go')
        assert page.run('return at("ask").hidden && at("note").textContent.length > 0')
        page.run('at("name").value = ""')
        page.type('#name', 'Anna')
        page.click('#go')
        until(lambda: all(page.run(SHOWN)['playing']))
        page.picture(f'page-{name}-question.png')
        assert page.run('return document.documentElement.scrollWidth <= window.innerWidth')      # nothing is cut off at the side
        assert page.run('return document.querySelector("#undo").getBoundingClientRect().bottom <= window.innerHeight')   # all buttons are in sight
        for i in range(8):
            time.sleep(.25)
            shown = page.run(SHOWN)
            assert shown['question'] == list(QUESTIONS.values())[i % 2] and shown['prompt'] in CAPTIONS and shown['bold'] == 0
            assert shown['count'] == f'{i} of 8'
            good = 'A' if key[shown['a']][1] in ('after', 'clean') else 'B'
            if i == 2:                                                              # skipped by key, taken back by click
                page.key('s'); time.sleep(.25)
                assert page.run(SHOWN)['count'] == '3 of 8'
                page.click('#undo'); time.sleep(.25)
                assert page.run(SHOWN) == shown
            if i == 4:                                                              # the browser starts again
                page.reload()
                page.type('#name', 'Anna')
                page.click('#go'); time.sleep(.25)
                assert {**page.run(SHOWN), 'playing': 0} == {**shown, 'playing': 0}
            if i % 3 == 0 and name == 'desk': page.key(good.lower())
            elif i % 3 == 1 and name == 'desk': page.key('\ue012' if good == 'A' else '\ue014')     # the arrows
            else: page.click(f'#{good}')
            page.run(f'act("{good}")')                                              # a double click counts once
            said.append(key[shown['a']][0])
        assert page.run('return !at("end").hidden && at("ask").hidden')
        page.picture(f'page-{name}-end.png')
        page.click('#download')
        file = until(lambda: next(iter(tmp_path.glob('answers-*.json')), None))
        assert page.log() == []
    assert file.name == f'answers-{study.id}-Anna.json'
    answers = read_page_answers(file.parent, study, tmp_path/'out'/'key.json')
    assert [a.pair for a in answers] == said and {a.chosen for a in answers} == {'after', 'clean'} and {a.rater for a in answers} == {'Anna'}
    assert all(0 < a.seconds < 100 for a in answers)

@browser
def test_order_and_sides_of_the_page(study, tmp_path):
    "Over many raters, each video stands at A in half of the cases, and each pair is first in its share; one rater always sees the same"
    write_page(study, tmp_path/'out')
    with window(tmp_path, (1000, 800), 9553) as page:
        page.open((tmp_path/'out'/'page.html').as_uri())
        plans = page.run('return [...Array(400).keys()].map(i => plan("rater " + i).map(s => s.sides[0] + s.question))')
        assert page.run('return JSON.stringify(plan("Anna")) === JSON.stringify(plan("Anna")) && JSON.stringify(plan("Anna")) !== JSON.stringify(plan("Ben"))')
        sent = page.run('return fetch("https://example.org").then(() => "sent", () => "refused")')
    key = read_key(tmp_path/'out'/'key.json', study)
    at_a = [sum(c + 'fidelity' in p for p in plans)/400 for c in key]
    first = [sum(p[0] == c + 'fidelity' for p in plans)/400 for c in key]
    assert all(.4 < x < .6 for x in at_a) and all(.06 < x < .19 for x in first), (at_a, first)
    assert sent == 'refused'

# The widget

CELL = '''
from vader_nb.evaluate.folders import find_clips
from vader_nb.evaluate.study import make_study
from vader_nb.evaluate.study_widget import StudyWidget
study = make_study(find_clips({before!r}), find_clips({after!r}), checks=1)
widget = StudyWidget(study, {answers!r}, "Anna")
'''

class Kernel:
    "A kernel, and the widgets that it has announced, as a front end sees them"
    def __init__(self):
        from jupyter_client.manager import start_new_kernel
        env = {**os.environ, 'PYTHONPATH': str(ROOT)}
        self.manager, self.client = start_new_kernel(kernel_name='python3', env=env)
        self.models = {}

    def hear(self, wait):
        "All messages until a request is done"
        while True:
            message = self.client.get_iopub_msg(timeout=180)
            kind, content = message['header']['msg_type'], message['content']
            assert kind != 'error', '\n'.join(content['traceback'])
            if kind == 'comm_open': self.models[content['comm_id']] = content['data']['state']
            if kind == 'comm_msg' and content['data'].get('method') == 'update': self.models[content['comm_id']] |= content['data']['state']
            if kind == 'status' and content['execution_state'] == 'idle' and message['parent_header'].get('msg_id') == wait: return

    def execute(self, code): self.hear(self.client.execute(code))
    def send(self, comm, data):
        message = self.client.session.msg('comm_msg', dict(comm_id=comm, data=data))
        self.client.shell_channel.send(message)
        self.hear(message['header']['msg_id'])

    def of(self, **state): return next(k for k, m in self.models.items() if all(m.get(a) == b for a, b in state.items()))
    def click(self, text): self.send(self.of(_model_name='ButtonModel', description=text), dict(method='custom', content=dict(event='click')))
    def type(self, text): self.send(self.of(_model_name='TextModel'), dict(method='update', state=dict(value=text), buffer_paths=[]))
    def texts(self): return ' '.join(m['value'] for m in self.models.values() if m.get('_model_name') == 'HTMLModel')
    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)

def test_widget_in_a_kernel(study, videos, tmp_path):
    "Clicks and letters go through the kernel's messages; the kernel is killed in the middle; the file holds what was clicked"
    cell = CELL.format(before=str(videos/'before'), after=str(videos/'after'), answers=str(tmp_path))
    plan, said = [t for t in plan_trials(study, 'Anna') for _ in QUESTIONS], []
    def good(): return 'A' if plan[len(said)].sides[0] in ('after', 'clean') else 'B'
    kernel = Kernel()
    try:
        kernel.execute(cell)
        for i in range(5):
            assert list(QUESTIONS.values())[i % 2] in kernel.texts() and '<b>cross</b>' not in kernel.texts()
            if i == 3:
                kernel.click('Skip')
                kernel.click('Undo')
            if i % 2: kernel.type(good().lower())
            else: kernel.click(good())
            said.append(plan[i].pair)
    finally: kernel.close()
    kernel = Kernel()
    try:
        kernel.execute(cell)
        assert '5/8' in [m.get('description') for m in kernel.models.values()]
        for i in range(5, 8):
            kernel.click(good())
            said.append(plan[i].pair)
        assert 'Thank you' in kernel.texts()
    finally: kernel.close()
    answers = read_answers(tmp_path, study)
    assert [a.pair for a in answers] == said and {a.chosen for a in answers} == {'after', 'clean'}

@browser
@lab
def test_widget_in_a_browser(study, videos, tmp_path):
    "JupyterLab with the widget, clicked and typed into; reloaded in the middle, the kernel started again"
    cell = CELL.format(before=str(videos/'before'), after=str(videos/'after'), answers=str(tmp_path/'answers')) + 'widget'
    cells = [dict(cell_type='code', id='c', metadata={}, source=cell, outputs=[], execution_count=None)]
    (tmp_path/'s.ipynb').write_text(json.dumps(dict(cells=cells, metadata=dict(kernelspec=dict(name='python3', display_name='python3')), nbformat=4, nbformat_minor=5)))
    env = {**os.environ, 'PYTHONPATH': str(ROOT)}
    command = [os.environ.get('JUPYTER_LAB', 'jupyter-lab'), '--no-browser', '--allow-root', '--ip=127.0.0.1', '--port=9561', '--IdentityProvider.token=', '--LabApp.expose_app_in_browser=True', f'--notebook-dir={tmp_path}']
    server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    buttons = 'return [...document.querySelectorAll("button.jupyter-button")].map(b => b.textContent.trim())'
    press = 'const b = [...document.querySelectorAll("button.jupyter-button")].find(b => b.textContent.trim() === arguments[0] && !b.disabled); if (b) b.click(); return !!b'
    ready = 'const w = jupyterapp.shell.currentWidget, k = w && w.context && w.context.isReady && w.context.sessionContext.session;' \
            ' return !!k && !!k.kernel && k.kernel.status === "idle"'
    count = 'return [...document.querySelectorAll(".widget-hprogress")].map(p => p.textContent.trim()).join("")'
    plan, n = [t for t in plan_trials(study, 'Anna') for _ in QUESTIONS], 0
    def good(): return 'A' if plan[n].sides[0] in ('after', 'clean') else 'B'
    def answered():
        try: return urllib.request.urlopen('http://127.0.0.1:9561/api', timeout=5).status == 200
        except OSError: return False
    try:
        until(answered, 120)
        with window(tmp_path, (1280, 1000), 9554) as page:
            for start in (0, 4):
                page.open('http://127.0.0.1:9561/lab/tree/s.ipynb?reset')
                until(lambda: page.run('return !!window.jupyterapp && !!document.querySelector(".jp-CodeCell")'), 180)
                until(lambda: page.run(ready), 180)
                page.run('jupyterapp.commands.execute("notebook:run-all-cells")')
                until(lambda: f'{start}/8' in page.run(count), 180)
                page.picture(f'widget-{start}.png')
                for i in range(4):
                    if i % 2: page.type('.widget-text input', good().lower())
                    else: assert page.run(press, good())
                    n += 1
                    until(lambda: n == 8 or f'{n}/8' in page.run(count), 60)
                if start == 0: page.run('return jupyterapp.serviceManager.sessions.shutdownAll().then(() => true)')     # the kernel dies
            until(lambda: 'Thank you' in page.run('return document.body.textContent'))
            page.picture('widget-end.png')
    finally:
        server.terminate()
        server.wait()
    answers = read_answers(tmp_path/'answers', study)
    assert len(answers) == 8 and {a.chosen for a in answers} == {'after', 'clean'}
