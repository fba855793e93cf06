"""What an agent would try to get at what it is confined from.

Prints a line for each way that led somewhere, then what it has of its own. The
paths come in ATTACK, as JSON.
"""

import ctypes
import glob
import json
import os
import shutil
import socket
import stat
import subprocess
import sys

places = json.loads(os.environ["ATTACK"])
session_sock = os.environ["EPISODE_SOCKET"]
prefix = "inside another namespace: " if "AGAIN" in os.environ else ""


def tell(what):
    print(prefix + what, flush=True)


def reached(what, attempt):
    try:
        attempt()
    except (OSError, subprocess.SubprocessError):
        return
    tell("reached " + what)


def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def read(path):
    with open(path, "rb") as file:
        file.read(1)


def everywhere(path):
    """The same file through every process that can be seen."""
    found = glob.glob("/proc/[0-9]*/root") + glob.glob("/proc/[0-9]*/cwd")
    return [process + path for process in found]


def any_of(attempt, paths):
    for path in paths:
        try:
            return attempt(path)
        except OSError:
            pass
    raise OSError("none")


def by_symlink(path, attempt):
    link = os.path.join(os.getcwd(), f"link-{os.getpid()}")
    os.symlink(path, link)
    try:
        attempt(link)
    finally:
        os.unlink(link)


def look_for(names):
    for top in ["/tmp", "/run", "/var", "/home", "/mnt", "/media", "/root"]:
        for _, directories, files in os.walk(top):
            if names.intersection(directories + files):
                return
    raise OSError("nowhere")


def move(path):
    os.rename(path, path + ".gone")
    os.rename(path + ".gone", path)


def writable(path):
    if not os.access(path, os.W_OK):
        raise OSError("not writable")


def inherited():
    for descriptor in os.listdir("/proc/self/fd"):
        if int(descriptor) > 2 and os.path.exists(f"/proc/self/fd/{descriptor}"):
            print("descriptor", descriptor, file=sys.stderr)
            return
    raise OSError("none")


def block_device():
    for name in glob.glob("/dev/*"):
        if stat.S_ISBLK(os.stat(name).st_mode):
            return
    raise OSError("none")


def attach(pid):
    seize, detach = 0x4206, 17
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(seize, pid, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")
    libc.ptrace(detach, pid, 0, 0)


def ctl(*arguments, **environment):
    env = {**os.environ, **environment}
    subprocess.run(
        ["bin/episodectl", *arguments], env=env, check=True, capture_output=True, timeout=20
    )


operator, registry, handle = places["operator"], places["registry"], places["handle"]
reached("operator.sock by its path", lambda: connect(operator))
reached("operator.sock by another process", lambda: any_of(connect, everywhere(operator)))
reached("operator.sock by a symlink", lambda: by_symlink(operator, connect))
reached("operator.sock by episodectl", lambda: ctl("session", "list", EPISODE_HANDLE_FILE=""))
reached("the registry by its path", lambda: read(registry))
reached("the registry by another process", lambda: any_of(read, everywhere(registry)))
reached("the registry by a symlink", lambda: by_symlink(registry, read))
reached("another's handle by its path", lambda: read(handle))
reached("another's handle by another process", lambda: any_of(read, everywhere(handle)))
reached("a name of the daemon's", lambda: look_for({"operator.sock", "registry.db"}))
reached("a process outside", lambda: os.kill(places["pid"], 0))
reached("a process outside, to trace it", lambda: attach(places["pid"]))
reached("another's session", lambda: ctl("session", "terminate", places["session"]))
reached("the place of session.sock", lambda: move(session_sock))
reached("its handle's directory", lambda: writable(os.path.dirname(os.environ["EPISODE_HANDLE_FILE"])))
reached("the system's programs", lambda: writable("/usr/bin"))
reached("a file descriptor of its parent", inherited)
reached("a disk", block_device)

if "AGAIN" not in os.environ and shutil.which("unshare"):
    again = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork"]
    subprocess.run([*again, sys.executable, *sys.argv], env={**os.environ, "AGAIN": "1"})

own = [
    ("session.sock", lambda: connect(session_sock)),
    ("handle", lambda: read(os.environ["EPISODE_HANDLE_FILE"])),
    ("workspace", lambda: read("src/main.rs")),
    ("session", lambda: ctl("session", "heartbeat")),
]
for what, attempt in own:
    attempt()
    tell("own " + what)
