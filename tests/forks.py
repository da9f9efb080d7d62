"Processes of a test, forked from the server of the notebooks, which has imported torch and the library: they begin at once, and not after seconds of imports"
import atexit, gc, os
import torch
from tools.notebooks import _server


def _work(env, fn, args):
    "Call `fn` in these variables, and leave as an interpreter does"
    gc.freeze()
    os.environ.clear()
    os.environ.update(env)
    torch.set_num_threads(1)
    try: fn(*args)
    finally: atexit._run_exitfuncs()

def start(fn, *args, **env):
    "A process that calls `fn`, a function of a module, in the present variables and these"
    p = _server().Process(target=_work, args=(os.environ | env, fn, args))
    p.start()
    return p

def codes(processes, timeout=300):
    "Their exit codes, minus the signal for one that was killed; None for one that goes on"
    for p in processes: p.join(timeout)
    return [p.exitcode for p in processes]
