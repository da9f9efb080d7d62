"The live view in a real kernel: its button, pressed as a front end presses it, and the interrupt of a running cell."
import pytest
from test_study import Kernel

SETUP = '''
import time, torch
from vader_nb.live import LiveView
from vader_nb.trainer import fit
from vader_nb.training import Training

weight = torch.nn.Parameter(torch.zeros(()))
def loss(batch):
    time.sleep(.02)
    reward = -(weight - 1).square().expand(len(batch.prompts))
    return -reward.mean(), dict(reward=reward)
view = LiveView(refresh=.2)
run = dict(loss_fn=loss, parameters=[weight], prompts=["a video"], train_steps=3000, training=Training(), callbacks=[view])
'''

@pytest.fixture(scope='module')
def kernel():
    found = Kernel()
    yield found
    found.close()

def test_the_button_is_heard_beside_a_run(kernel):
    kernel.execute(SETUP)
    kernel.execute('future = view.start(fit, **run)')
    kernel.execute('while len(view.log) < 5: time.sleep(.02)')
    kernel.click('Stop')
    kernel.execute('log = future.result(timeout=30)\nassert 5 <= len(log) < 3000, len(log)')
    assert 'stopped on request' in kernel.texts()

def test_an_interrupt_stops_a_running_cell_in_good_order(kernel):
    kernel.execute(SETUP)
    kernel.models.clear()
    wait, update = kernel.client.execute('log = fit(**run)\nafterwards = True'), ''
    while not update.startswith('update '):
        content = kernel.client.get_iopub_msg(timeout=60)['content']
        update = str(content.get('data', {}).get('state', {}).get('value', ''))
    kernel.manager.interrupt_kernel()
    while True:         # an error would be raised by the next cell, too: `afterwards` is not there
        message = kernel.client.get_iopub_msg(timeout=60)
        if message['header']['msg_type'] == 'status' and message['content']['execution_state'] == 'idle' and message['parent_header'].get('msg_id') == wait: break
    kernel.execute('assert afterwards and 0 < len(log) < 3000 and view.asked, len(log)')
