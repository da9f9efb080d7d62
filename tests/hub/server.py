"""A stand-in for the Hugging Face hub on this machine: the part of its API that `huggingface_hub` uses to look up, download and upload models.

    hub = Hub({'owner/name': folder}).start()        # then point HF_ENDPOINT at hub.url; a data set is called 'datasets/owner/name'
    hub.faults['owner/name'] = Fault(cut=1000)       # what goes wrong there from now on
    hub.sent                                         # [(repository, file, first byte, bytes sent)] of the bodies that were asked for

Files are read when they are asked for. Weights have the SHA-256 of their content as ETag, as files of LFS have, everything else the SHA-1 of git.
"""
import base64, hashlib, json, re, threading, time
from dataclasses import dataclass
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vader_nb.downloads import REVISIONS

WEIGHTS = ('.safetensors', '.bin', '.pt', '.pth', '.ckpt', '.tar', '.model')
CHUNK = 1 << 16


@dataclass
class Fault:
    "What goes wrong with a repository; `times` says how often, None is always"
    status: int | None = None   # the answer to everything
    code: str = ''              # X-Error-Code of that answer, such as 'GatedRepo'
    cut: int | None = None      # the connection ends after this many bytes of a body
    short: int = 0              # weights lack this many bytes at their end, though their listed size says otherwise
    damaged: bool = False       # one byte of the weights differs
    seconds: float = 0.         # between two chunks of a body
    only: str = ''              # files whose path holds this
    times: int | None = None

    def strikes(self, path):
        "Does it happen to this request? Counts"
        if self.only not in path or self.times == 0: return False
        if self.times is not None: self.times -= 1
        return True


@lru_cache(None)
def _digests(path, size, modified):
    raw = Path(path).read_bytes()
    return hashlib.sha256(raw).hexdigest(), hashlib.sha1(b'blob %d\0' % len(raw) + raw).hexdigest()

def digests(path): return _digests(str(path), path.stat().st_size, path.stat().st_mtime_ns)
def is_weights(path): return path.name.endswith(WEIGHTS)


class Repository:
    "Commits of files, and names for them"
    def __init__(self, folder=None, number=None):
        self.commits, self.refs = {}, {}
        files = sorted(p for p in Path(folder).rglob('*') if p.is_file()) if folder else []
        self.commit({p.relative_to(folder).as_posix(): p for p in files}, number=number)

    def commit(self, files, ref='main', number=None):
        "Files by path, as a commit that `ref` stands for from now on; its number, which follows from the files if none is given"
        listing = json.dumps([(k, digests(p)[0]) for k, p in sorted(files.items())])
        sha = number or hashlib.sha1(listing.encode()).hexdigest()
        self.commits[sha], self.refs[ref] = dict(files), sha
        return sha

    def resolve(self, revision):
        "The commit of a branch, tag or commit, or None"
        return self.refs.get(revision, revision if revision in self.commits else None)

    def listing(self, sha):
        "What the API says about each file"
        for name, path in sorted(self.commits[sha].items()):
            size, (sha256, git) = path.stat().st_size, digests(path)
            yield name, size, git, dict(oid=sha256, sha256=sha256, size=size, pointerSize=134) if is_weights(path) else None


class Hub:
    "Repositories, files of other servers under /mirror, uploads, faults"
    def __init__(self, folders, uploads=None, mirror=None):
        self.repositories = {k: Repository(f, REVISIONS.get(k)) for k, f in folders.items()}      # first commit: the one that is pinned
        self.uploads, self.mirror = uploads and Path(uploads), mirror and Path(mirror)
        self.faults, self.sent = {}, []

    def start(self, port=0):
        "Serve in threads until `stop`"
        handler = type('Handler', (_Handler,), dict(hub=self))
        self.server = ThreadingHTTPServer(('127.0.0.1', port), handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f'http://127.0.0.1:{self.server.server_address[1]}'
        return self

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def environment(self, home):
        "Variables under which a process uses this hub, with its cache in `home`"
        return dict(HF_ENDPOINT=self.url, HF_HOME=str(home), VADER_NB_MIRROR=f'{self.url}/mirror', HF_TOKEN='hf_standin', HF_HUB_OFFLINE='0',
                    TRANSFORMERS_OFFLINE='0', HF_HUB_DISABLE_TELEMETRY='1', NO_PROXY='127.0.0.1')


_FILE = re.compile(r'/(?P<repo>(datasets/)?[\w.-]+/[\w.-]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)')
_INFO = re.compile(r'/api/(?P<repo>(models|datasets)/[\w.-]+/[\w.-]+)(/(?P<what>revision|tree|preupload|commit)/(?P<revision>[^/]+))?/?')

class _Handler(BaseHTTPRequestHandler):
    protocol_version, hub = 'HTTP/1.1', None

    def log_message(self, *args): pass

    # Answers

    def _answer(self, status, body=b'', head=False, **headers):
        body = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for k, v in {'Content-Type': 'application/json', 'Content-Length': str(len(body)), **headers}.items(): self.send_header(k, v)
        self.end_headers()
        if not head and body: self.wfile.write(body)

    def _refuse(self, status, code='', head=False, **headers):
        message = {'GatedRepo': 'Access to this model is restricted', 'RepoNotFound': 'Repository not found'}.get(code, code or 'Internal error')
        known = {'X-Error-Code': code} if code else {}
        self._answer(status, dict(error=message), head, **known, **{'X-Error-Message': message}, **headers)

    def _find(self, repo, revision, head, path):
        "Repository and commit, or None once the refusal is sent"
        fault, found = self.hub.faults.get(repo), self.hub.repositories.get(repo)
        if fault and fault.status and fault.strikes(path): return self._refuse(fault.status, fault.code, head)
        if found is None: return self._refuse(404 if self.headers.get('Authorization') else 401, 'RepoNotFound', head)
        sha = found.resolve(revision)
        return (found, sha) if sha else self._refuse(404, 'RevisionNotFound', head)

    def do_HEAD(self): self.do_GET(head=True)

    def do_GET(self, head=False):
        path = unquote(urlsplit(self.path).path)
        if path.startswith('/mirror/'): return self._mirror(path.removeprefix('/mirror/'), head)
        if path == '/api/whoami-v2': return self._answer(200, dict(name='me', type='user', auth=dict(accessToken=dict(role='write'))), head)
        if m := _FILE.fullmatch(path): return self._file(m['repo'], m['revision'], m['file'], head)
        if m := _INFO.fullmatch(path): return self._about(m['repo'].removeprefix('models/'), m['what'], m['revision'] or 'main', head)
        self._refuse(404, 'EntryNotFound', head)

    # Looking up and downloading

    def _about(self, repo, what, revision, head):
        found = self._find(repo, revision, head, '')
        if not found: return
        repository, sha = found
        files = list(repository.listing(sha))
        if what == 'tree':
            rows = [dict(type='file', path=n, size=s, oid=g) | (dict(lfs=l) if l else {}) for n, s, g, l in files]
            return self._answer(200, rows, head)
        siblings = [dict(rfilename=n, size=s, blobId=g) | (dict(lfs=l) if l else {}) for n, s, g, l in files]
        self._answer(200, dict(id=repo, modelId=repo, sha=sha, private=False, gated=False, disabled=False, tags=[], downloads=0, likes=0,
                               siblings=siblings), head)

    def _file(self, repo, revision, name, head):
        found = self._find(repo, revision, head, name)
        if not found: return
        repository, sha = found
        path = repository.commits[sha].get(name)
        if path is None: return self._refuse(404, 'EntryNotFound', head, **{'X-Repo-Commit': sha})
        fault, (sha256, git) = self.hub.faults.get(repo), digests(path)
        etag = f'"{sha256 if is_weights(path) else git}"'
        self._body(repo, name, path, fault, head, {'X-Repo-Commit': sha, 'ETag': etag, 'X-Linked-Etag': etag, 'X-Linked-Size': str(path.stat().st_size)})

    def _mirror(self, name, head):
        path = self.hub.mirror and self.hub.mirror/name
        if not path or not path.is_file(): return self._refuse(404, '', head)
        self._body('mirror', name, path, self.hub.faults.get('mirror'), head, {})

    def _body(self, repo, name, path, fault, head, headers):
        "A file, or what the `Range` asks for of it, as the fault lets it"
        raw = path.read_bytes()
        if fault and (head or not fault.strikes(name)): fault = None
        if fault and is_weights(path): raw = _spoilt(raw, fault)
        first = int((re.match(r'bytes=(\d+)-', self.headers.get('Range', '')) or [0, 0])[1])
        if first and first >= len(raw): return self._refuse(416, '', head, **{'Content-Range': f'bytes */{len(raw)}'})
        headers = {**headers, 'Content-Length': str(len(raw) - first), 'Accept-Ranges': 'bytes', 'Content-Type': 'application/octet-stream'}
        if first: headers['Content-Range'] = f'bytes {first}-{len(raw) - 1}/{len(raw)}'
        self.send_response(206 if first else 200)
        for k, v in headers.items(): self.send_header(k, v)
        self.end_headers()
        if not head: self._send(repo, name, raw, first, fault)

    def _send(self, repo, name, raw, first, fault):
        "Chunk by chunk; a cut closes the connection"
        end = len(raw) if not fault or fault.cut is None else min(len(raw), first + fault.cut)
        row = [repo, name, first, 0]
        self.hub.sent.append(row)
        try:
            for i in range(first, end, CHUNK):
                self.wfile.write(raw[i:min(i + CHUNK, end)])
                row[3] += min(i + CHUNK, end) - i
                if fault and fault.seconds: time.sleep(fault.seconds)
        except OSError: self.close_connection = True    # the other side went away
        if end < len(raw): self.close_connection = True

    # Uploading

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get('Content-Length') or 0))
        path = unquote(urlsplit(self.path).path)
        if not self.headers.get('Authorization'): return self._refuse(401, '')
        if path == '/api/validate-yaml': return self._answer(200, dict(errors=[], warnings=[]))
        if path == '/api/repos/create': return self._create(json.loads(body))
        m = _INFO.fullmatch(path)
        found = m and m['what'] in ('preupload', 'commit') and self._find(m['repo'].removeprefix('models/'), m['revision'], False, '')
        if m is None: return self._refuse(404, 'EntryNotFound')
        if not found: return
        if m['what'] == 'commit': return self._commit(m['repo'].removeprefix('models/'), m['revision'], *found, body)
        self._answer(200, dict(files=[dict(path=f['path'], uploadMode='regular', shouldIgnore=False) for f in json.loads(body)['files']]))

    def _create(self, asked):
        repo = f'{asked.get("organization") or "me"}/{asked["name"]}'
        if repo in self.hub.repositories: return self._answer(409, dict(error='You already created this model repo', url=f'{self.hub.url}/{repo}'))
        fault = self.hub.faults.get(repo)
        if fault and fault.status: return self._refuse(fault.status, fault.code)
        self.hub.repositories[repo] = Repository()
        self._answer(200, dict(url=f'{self.hub.url}/{repo}', name=repo, id=repo))

    def _commit(self, repo, revision, repository, sha, body):
        files = dict(repository.commits[sha])
        for row in map(json.loads, body.splitlines()):
            if row['key'] != 'file': continue
            path = self.hub.uploads/repo/hashlib.sha1(row['value']['content'].encode()).hexdigest()/row['value']['path']
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(base64.b64decode(row['value']['content']))
            files[row['value']['path']] = path
        new = repository.commit(files, revision)
        self._answer(200, dict(success=True, commitOid=new, commitUrl=f'{self.hub.url}/{repo}/commit/{new}', hookOutput=''))


def _spoilt(raw, fault):
    "What a fault makes of the content of a file"
    if fault.damaged: raw = raw[:-9] + bytes([raw[-9] ^ 255]) + raw[-8:]
    return raw[:len(raw) - fault.short]
