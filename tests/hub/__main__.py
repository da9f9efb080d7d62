"""Serve the stand-in hub, and print the variables under which `vader_align` and the notebooks use it; or run one command under them:

    python tests/hub [--port 8800] [--home FOLDER]
    python tests/hub [--home FOLDER] vader_align --recipe modelscope-pickscore ...
"""
import argparse, os, subprocess, sys, tempfile, time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[i]) for i in (1, 2)]    # for `hub`, and for `vader_nb` of this checkout


def parse(argv):
    parser = argparse.ArgumentParser(prog='python tests/hub', description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--port', type=int, help='of the server (default: 8800, or any that is free for one command)')
    parser.add_argument('--home', help='folder for the downloads of those who use it (default: a new one)')
    parser.add_argument('command', nargs=argparse.REMAINDER, help='what to run; the server ends with it')
    return parser.parse_args(argv)

def serve(hub, env):
    "Until Ctrl-C"
    print(f'# {len(hub.repositories)} repositories, toy networks with random weights. In another shell:')
    for k, v in env.items(): print(f'export {k}={v}')
    print('# end with Ctrl-C', flush=True)
    while True: time.sleep(3600)

def written(folder):
    "The repositories in a folder; what transformers remarks on toy networks, and its bars, would look like faults of the command"
    print('tests/hub: making the miniature repositories (a quarter of a minute)', file=sys.stderr, flush=True)
    from transformers.utils import logging
    from hub.repositories import write_all
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return write_all(folder)

def main(argv=None):
    a = parse(argv)
    from hub.server import Hub
    with tempfile.TemporaryDirectory(prefix='vader-hub-') as folder:
        folder = Path(folder)
        served = written(folder/'served')
        hub = Hub(served, folder/'uploads', folder/'served'/'mirror').start(a.port if a.port is not None else 0 if a.command else 8800)
        env = hub.environment(a.home or folder/'home')
        try: return subprocess.run(a.command, env=os.environ | env).returncode if a.command else serve(hub, env)
        except KeyboardInterrupt: return 130
        finally: hub.stop()

if __name__ == '__main__': sys.exit(main())
