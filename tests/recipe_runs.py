"""Take recipes from their names to a LoRA and to videos, as a user does in a shell, in one process:

    python tests/recipe_runs.py FOLDER [RECIPE ...]        prints a line of JSON a recipe; FOLDER gets what they write

`vader_align` is stopped by Ctrl-C after its first update, goes on to the second, and `vader_sample` draws with the LoRA. Only sizes are smaller than
in the recipe. Those in `WHOLE` also run without being stopped.
"""
import json, os, signal, sys, time, traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT/'tests')]
from net_cells import watch_toys

STEPS = '--num-inference-steps 2'
SMALL = f'{STEPS} --train-steps 2 --save-every 1 --batch-size 2 --gradient-accumulation-steps 2 --eval-train 0 --eval-test 1 --pictures 1 --n-train 2'
MODELS = {      # sizes that a CPU can do, and what reads half precision slowly there
    'modelscope': '--size 32x32 --num-frames 4 --dtype float32', 'videocrafter2': '--size 32x32 --num-frames 4 --dtype float32',
    'opensora': '--size 32x32 --num-frames 17', 'svd': '--size 32x32 --num-frames 4 --dtype float32', 'wan': '--size 32x32 --num-frames 5', 'tiny': '', 'tiny-i2v': ''}
WHOLE = 'modelscope-aesthetic', 'svd-vjepa'


def pictures(folder, names):
    "A folder with pictures, and its path"
    from PIL import Image
    folder.mkdir(parents=True, exist_ok=True)
    for i, n in enumerate(names): Image.effect_noise((96, 64), 40 + 20*i).convert('RGB').save(folder/f'{n}.png')
    return folder

def words_of(r, folder):
    "The options beside --recipe"
    dogs = ['--images', pictures(folder/'dogs', ('rex', 'fido')), '--test-images', pictures(folder/'others', ('lassie',))] if r.model == 'svd' else []
    less = [*(['--diversity-prompts', '0'] if r.diversity_prompts else []), *([] if r.recipe in WHOLE else ['--samples-every', '0'])]
    return [*SMALL.split(), *sizes_of(r), *(dogs or one_prompt(r, folder)), *less]

def one_prompt(r, folder):
    "A single test prompt, so that a single video is drawn before and after; some draw those of the recipe"
    (folder/'one.txt').write_text('a dog runs along a beach\n', encoding='utf-8')
    own = r.recipe in WHOLE or 'tiny' in r.model or 'action' in r.reward       # an action has to be one that the classifier knows
    return [] if own else ['--test-prompts', folder/'one.txt']

def sizes_of(r):
    "Those that a CPU can do; ViCLIP reads eight frames"
    return MODELS[r.model].replace('frames 4', 'frames 8' if 'viclip' in r.reward else 'frames 4').split()

class Interrupt:
    "Ctrl-C as soon as the first checkpoint is written"
    def __enter__(self):
        from vader_nb import trainer
        self.save = trainer._save
        trainer._save = self
    def __call__(self, *args):
        self.save(*args)
        signal.raise_signal(signal.SIGINT)
    def __exit__(self, *error):
        from vader_nb import trainer
        trainer._save = self.save

def code_of(command, words):
    "The code that a command ends with"
    try: command([str(w) for w in words])
    except SystemExit as e: return e.code
    return 0

def run_recipe(name, folder):
    "What it wrote: for the test to look at"
    from vader_nb.commands.align import vader_align
    from vader_nb.commands.sample import vader_sample
    from vader_nb.methods.recipes import load_recipe
    r, out = load_recipe(name), folder/name
    words = ['--recipe', name, *words_of(r, folder)]
    with Interrupt(): stopped = code_of(vader_align, [*words, '--out', out])
    left = sorted(p.name for p in out.iterdir())
    went_on = code_of(vader_align, [*words, '--out', out])
    whole = code_of(vader_align, [*words, '--out', folder/f'{name}-whole']) if name in WHOLE else None
    return dict(stopped=stopped, left=left, went_on=went_on, whole=whole, sampled=code_of(vader_sample, samples_of(r, folder, out)))

def samples_of(r, folder, out):
    "The words of `vader_sample` for the LoRA in `out`"
    what = ['--image', pictures(folder/'others', ('lassie',))/'lassie.png'] if 'i2v' in r.model or r.model == 'svd' else ['--prompt', 'a red circle growing over sand']
    return ['--recipe', r.recipe, *what, *sizes_of(r), *STEPS.split(), '--lora', out, '--out', out/'videos']

def main(folder, *names):
    from vader_nb.methods.experiments import RECIPE_TABLE
    for name in names or RECIPE_TABLE:
        TOYS.clear()
        start, found = time.process_time(), dict(recipe=name, error='')
        try: found |= run_recipe(name, Path(folder))
        except BaseException: found['error'] = traceback.format_exc(limit=-6)
        print(f'\n@@{json.dumps(found | dict(toys=sorted({*TOYS}), seconds=round(time.process_time() - start, 1)))}', flush=True)

if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)    # a shell starts its background jobs with Ctrl-C ignored
    import matplotlib
    matplotlib.use('agg')
    TOYS = watch_toys()
    main(*sys.argv[1:])
