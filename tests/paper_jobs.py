"Runs for test_paper.py, in a module that another process can import"
import os, time
from pathlib import Path

def squares(folder, *needs, n, pause):
    "A line in a diary for each beginning, and a pause in which one may be killed"
    with open(Path(folder)/'diary', 'a') as diary: diary.write(f'{n} {os.getpid()}\n')
    time.sleep(pause)
    return [i*i for i in range(n)]

def broken(folder): return 1/0
