"The page of runs in a browser: all of it is there at two widths, the videos play, and no text in it is obeyed"
import json

import pytest, torch
from test_study import browser, until, window
from vader_nb.lora import LORA_FILE
from vader_nb.methods.saved_runs import write_gallery
from vader_nb.video import write_video

ATTACK = '</script><script>document.title = "hacked"</script><img src=x onerror="document.title = \'hacked\'">'


def saved(folder, name, text):
    "What the page reads of a saved run, without a training"
    (folder/name).mkdir(parents=True)
    records = dict(model='tiny', reward=text, kind='Vader', note=text)
    log = [dict(step=i, reward=i*i/30, queries=4*i) for i in range(1, 7)]
    (folder/name/LORA_FILE).write_bytes(b'')
    (folder/name/'options.json').write_text(json.dumps(records))
    (folder/name/'prompts.json').write_text(json.dumps(dict(texts=[text, 'שלום עולם', 'a fox 🦊 ' + 'long '*60], pictures=False)))
    (folder/name/'log.jsonl').write_text(''.join(json.dumps(r) + '\n' for r in log))
    write_video(folder/name/'before_after.mp4', torch.rand(2, 8, 3, 64, 32), scale=2)

@browser
@pytest.mark.parametrize('name, size, port', [('desk', (1280, 900), 9561), ('phone', (390, 800), 9562)])
def test_page(tmp_path, name, size, port):
    for run, text in (('one', 'green'), ('deep/two', ATTACK), ('three', 'x'*300)): saved(tmp_path/'runs', run, text)
    with window(tmp_path, size, port) as page:
        page.open(write_gallery(tmp_path/'runs', title=f'Runs {ATTACK}').as_uri())
        for i in range(3):      # a browser may wait with a video until it is in sight
            page.run(f'document.querySelectorAll("video")[{i}].scrollIntoView()')
            until(lambda: page.run(f'return document.querySelectorAll("video")[{i}].currentTime > 0'))
        page.run('window.scrollTo(0, 0)')
        page.picture(f'gallery-{name}.png')
        assert page.run('return document.querySelectorAll("article, tbody tr").length') == 6
        assert page.run('return [...document.querySelectorAll("article h2")].map(h => h.textContent)') == ['deep/two', 'one', 'three']
        assert page.run('return document.querySelectorAll("img, script").length') == 0 and page.run('return document.title').startswith('Runs </script>')
        page.run('document.querySelectorAll("details").forEach(d => d.open = true)')
        assert page.run('return document.querySelector("li").textContent') == ATTACK
        assert page.run('return document.documentElement.scrollWidth <= window.innerWidth')      # nothing is cut off at the side, nor in a box
        assert page.run('return [...document.querySelectorAll("article, article p")].every(e => e.scrollWidth <= e.clientWidth)')
        page.picture(f'gallery-{name}-open.png')
        assert page.run('return performance.getEntriesByType("resource").filter(r => !r.name.startsWith("data:")).length') == 0
        assert page.log() == []
