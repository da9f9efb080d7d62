"""Serve the stand-in hub, and print the variables under which `vader_align` and the notebooks use it:

    python tests/hub [--port 8800] [--home FOLDER]
"""
import argparse, sys, tempfile, time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[i]) for i in (1, 2)]    # for `hub`, and for `vader_nb` of this checkout
from hub.repositories import write_all
from hub.server import Hub


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--port', type=int, default=8800)
    parser.add_argument('--home', help='folder for the downloads of those who use it (default: a new one)')
    a = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix='vader-hub-') as folder:
        folder = Path(folder)
        hub = Hub(write_all(folder/'served'), folder/'uploads', folder/'served'/'mirror').start(a.port)
        print(f'# {len(hub.repositories)} repositories, toy networks with random weights. In another shell:')
        for k, v in hub.environment(a.home or folder/'home').items(): print(f'export {k}={v}')
        print('# end with Ctrl-C', flush=True)
        try:
            while True: time.sleep(3600)
        except KeyboardInterrupt: hub.stop()

if __name__ == '__main__': main()
