"""---
title: Reference
description: Every exported function and class, one line each
repo-actions: false
---"""
from nbdev.config import get_config
from tools.site_api import reference

print(reference(get_config().config_path))
