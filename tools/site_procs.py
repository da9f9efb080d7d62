"""The site shows the notebooks as they are. settings.ini skips nbdev's processors that would put API tables in the place of
exported code (and, to make them, run every cell that imports something), and adds this one."""

def default_exp_(cell, *args):
    "Leave out the cell that names the module"
    del cell['source']
