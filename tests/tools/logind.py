"""A logind for tests: a template of python-dbusmock.

Inhibitors are real: the caller gets one end of a pipe, and an inhibitor is there
as long as that end is open anywhere.
"""

import os
import select

import dbus

BUS_NAME = "org.freedesktop.login1"
MAIN_OBJ = "/org/freedesktop/login1"
MAIN_IFACE = "org.freedesktop.login1.Manager"
SYSTEM_BUS = True


def load(mock, parameters):
    mock.AddProperties(MAIN_IFACE, {"PreparingForSleep": dbus.Boolean(False)})
    mock.taken = []
    mock.refused = []


def alive(pipe):
    return not any(event & select.POLLHUP for _, event in poll(pipe))


def poll(pipe):
    poller = select.poll()
    poller.register(pipe, select.POLLIN)
    return poller.poll(0)


@dbus.service.method(MAIN_IFACE, in_signature="ssss", out_signature="h")
def Inhibit(self, what, who, why, mode):
    if mode in self.refused:
        raise dbus.exceptions.DBusException(
            "not for you", name="org.freedesktop.DBus.Error.AccessDenied"
        )
    ours, theirs = os.pipe()
    self.taken.append((ours, what, who, why, mode))
    answer = dbus.types.UnixFd(theirs)
    os.close(theirs)
    return answer


@dbus.service.method(MAIN_IFACE, in_signature="", out_signature="a(ssssuu)")
def ListInhibitors(self):
    held = [taken[1:] + (0, 0) for taken in self.taken if alive(taken[0])]
    return dbus.Array(held, signature="(ssssuu)")


@dbus.service.method("test.Logind", in_signature="b", out_signature="")
def Sleep(self, begins):
    self.UpdateProperties(MAIN_IFACE, {"PreparingForSleep": dbus.Boolean(begins)})
    self.EmitSignal(MAIN_IFACE, "PrepareForSleep", "b", [begins])


@dbus.service.method("test.Logind", in_signature="as", out_signature="")
def Refuse(self, modes):
    self.refused = list(modes)
