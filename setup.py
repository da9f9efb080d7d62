"Everything is read from settings.ini, which nbdev reads too."
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup

here = Path(__file__).parent
ini = ConfigParser(delimiters=['='])
ini.read(here/'settings.ini', encoding='utf-8')
cfg = ini['DEFAULT']
weights = [str(p.relative_to(here/'vader_nb')) for p in (here/'vader_nb').rglob('weights/**/*')
           if p.suffix in ('.safetensors', '.json', '.txt')]

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'],
    license='Apache-2.0', license_files=['LICENSE'],
    long_description=(here/'README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    classifiers=['Development Status :: 3 - Alpha', 'Intended Audience :: Developers', 'Natural Language :: English',
                 'Programming Language :: Python :: 3'],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=['vader_nb', 'vader_nb.*'], exclude=['vader_nb.weights*']),
    package_data={'vader_nb': weights}, include_package_data=False, zip_safe=False,
    install_requires=cfg['requirements'].split(),
    extras_require=dict(dev=cfg['dev_requirements'].split(), notebooks=cfg['notebooks_requirements'].split()),
    entry_points=dict(console_scripts=cfg['console_scripts'].split(), nbdev=[f"vader_nb=vader_nb._modidx:d"]),
)
