"""libnice behind the JSON lines of `nilas agent`, so that one runner can pair the two.

Debian's libnice10, called through ctypes. Reads commands from standard input, writes events to standard output. What
this driver cannot do (removing a candidate, TURN over TLS) is answered with an error event.
"""

import ctypes
import json
import os
import sys
import threading

nice = ctypes.CDLL("libnice.so.10")
glib = ctypes.CDLL("libglib-2.0.so.0")
gobject = ctypes.CDLL("libgobject-2.0.so.0")

POINTER, TEXT, UINT, BOOL = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint, ctypes.c_int

for function, result, arguments in (
    (glib.g_main_context_default, POINTER, []),
    (glib.g_main_loop_new, POINTER, [POINTER, BOOL]),
    (glib.g_main_loop_run, None, [POINTER]),
    (glib.g_slist_append, POINTER, [POINTER, POINTER]),
    (glib.g_slist_free, None, [POINTER]),
    (glib.g_free, None, [POINTER]),
    (nice.nice_agent_new_full, POINTER, [POINTER, UINT, UINT]),
    (nice.nice_agent_add_stream, UINT, [POINTER, UINT]),
    (nice.nice_agent_add_local_address, BOOL, [POINTER, POINTER]),
    (nice.nice_address_new, POINTER, []),
    (nice.nice_address_set_from_string, BOOL, [POINTER, TEXT]),
    (nice.nice_agent_gather_candidates, BOOL, [POINTER, UINT]),
    (nice.nice_agent_get_local_credentials, BOOL, [POINTER, UINT, POINTER, POINTER]),
    (nice.nice_agent_set_remote_credentials, BOOL, [POINTER, UINT, TEXT, TEXT]),
    (nice.nice_agent_generate_local_candidate_sdp, POINTER, [POINTER, POINTER]),
    (nice.nice_agent_parse_remote_candidate_sdp, POINTER, [POINTER, UINT, TEXT]),
    (nice.nice_agent_set_remote_candidates, ctypes.c_int, [POINTER, UINT, UINT, POINTER]),
    (nice.nice_agent_peer_candidate_gathering_done, BOOL, [POINTER, UINT]),
    (nice.nice_agent_restart, BOOL, [POINTER]),
    (nice.nice_agent_send, ctypes.c_int, [POINTER, UINT, UINT, UINT, TEXT]),
    (nice.nice_candidate_free, None, [POINTER]),
):
    function.restype, function.argtypes = result, arguments

RECEIVED = ctypes.CFUNCTYPE(None, POINTER, UINT, UINT, UINT, POINTER, POINTER)
CANDIDATE = ctypes.CFUNCTYPE(None, POINTER, POINTER, POINTER)
DONE = ctypes.CFUNCTYPE(None, POINTER, UINT, POINTER)
STATE = ctypes.CFUNCTYPE(None, POINTER, UINT, UINT, UINT, POINTER)
SELECTED = ctypes.CFUNCTYPE(None, POINTER, UINT, UINT, POINTER, POINTER, POINTER)

RFC5245, REGULAR_NOMINATION, LITE_MODE, TRICKLE, CONSENT_FRESHNESS = 0, 1, 4, 8, 32
# Without the flag libnice nominates aggressively, as RFC 5245 allowed.
NOMINATION = 0 if "--aggressive" in sys.argv else REGULAR_NOMINATION
STATES = {2: "checking", 3: "connected", 4: "completed", 5: "failed"}
STREAM = COMPONENT = 1  # a second component is an extension of the lines: `components` in `start`

speaking = threading.Lock()


def say(event, **fields):
    with speaking:
        sys.stdout.write(json.dumps({"ev": event, **fields}) + "\n")
        sys.stdout.flush()


def take_text(pointer):
    """The text of a string that libnice gave away."""
    text = ctypes.string_at(pointer).decode()
    glib.g_free(pointer)
    return text


class Agent:
    def __init__(self):
        self.agent = None
        self.remote = None
        self.unanswered = False  # own credentials that the other side has not answered yet
        self.callbacks = []  # ctypes forgets what nobody holds

    def connect_signal(self, name, kind, function):
        callback = kind(function)
        self.callbacks.append(callback)
        gobject.g_signal_connect_data(
            POINTER(self.agent), TEXT(name), ctypes.cast(callback, POINTER), POINTER(), POINTER(), UINT(0)
        )

    def set_number(self, name, value):
        gobject.g_object_set(POINTER(self.agent), TEXT(name), UINT(value), POINTER())

    def on_start(self, fields):
        for option in ("iceServers", "mdns", "interfaces"):
            if fields.get(option):
                say("error", msg=f"this driver of libnice has no {option}")
        context = glib.g_main_context_default()
        self.lite = bool(fields.get("lite"))
        options = NOMINATION | TRICKLE | CONSENT_FRESHNESS | (LITE_MODE if self.lite else 0)
        self.agent = nice.nice_agent_new_full(context, RFC5245, options)
        self.set_number(b"controlling-mode", int(fields["controlling"]))
        self.set_number(b"upnp", 0)
        # Where TCP is asked for, there is nothing else, so that it is what is judged.
        tcp = bool(fields.get("tcp"))
        self.set_number(b"ice-tcp", int(tcp))
        self.set_number(b"ice-udp", int(not tcp))
        self.set_number(b"force-relay", int(fields.get("relayOnly", False)))
        if fields.get("stun"):
            host, _, port = fields["stun"].rpartition(":")
            text = TEXT(host.strip("[]").encode())
            gobject.g_object_set(POINTER(self.agent), TEXT(b"stun-server"), text, POINTER())
            self.set_number(b"stun-server-port", int(port))
        if address := fields.get("address"):
            own = nice.nice_address_new()
            nice.nice_address_set_from_string(own, address.encode())
            nice.nice_agent_add_local_address(self.agent, own)
        self.components = int(fields.get("components", 1))
        nice.nice_agent_add_stream(self.agent, self.components)
        if turn := fields.get("turn"):
            transport = {"udp": 0, "tcp": 1}[turn["transport"]]
            host, user, password = (TEXT(turn[name].encode()) for name in ("host", "user", "pass"))
            nice.nice_agent_set_relay_info(
                POINTER(self.agent), UINT(STREAM), UINT(COMPONENT), host, UINT(turn["port"]), user, password, transport
            )
        received = RECEIVED(self.received)
        self.callbacks.append(received)
        for component in range(1, self.components + 1):
            nice.nice_agent_attach_recv(
                POINTER(self.agent), UINT(STREAM), UINT(component), POINTER(context), received, POINTER()
            )
        self.connect_signal(b"new-candidate-full", CANDIDATE, self.candidate)
        self.connect_signal(b"candidate-gathering-done", DONE, lambda *_: say("eoc"))
        self.connect_signal(b"component-state-changed", STATE, self.state)
        self.connect_signal(b"new-selected-pair-full", SELECTED, self.selected)
        say("state", state="new")
        self.tell_credentials()
        nice.nice_agent_gather_candidates(self.agent, STREAM)

    def tell_credentials(self):
        ufrag, pwd = POINTER(), POINTER()
        nice.nice_agent_get_local_credentials(self.agent, STREAM, ctypes.byref(ufrag), ctypes.byref(pwd))
        self.ufrag = take_text(ufrag.value)
        lite = {"lite": True} if self.lite else {}
        say("params", ufrag=self.ufrag, pwd=take_text(pwd.value), **lite)

    def on_remote(self, fields):
        # libnice leaves it to the application to answer the peer's restart with one of its own.
        if self.remote not in (None, fields["ufrag"]) and not self.unanswered:
            self.on_restart(fields)
        self.unanswered, self.remote = False, fields["ufrag"]
        nice.nice_agent_set_remote_credentials(self.agent, STREAM, fields["ufrag"].encode(), fields["pwd"].encode())

    def on_candidate(self, fields):
        # Link-local addresses of the laboratory carry no scope in SDP, and libnice's parser takes none.
        line = "a=" + fields["candidate"]
        candidate = nice.nice_agent_parse_remote_candidate_sdp(self.agent, STREAM, line.encode())
        if not candidate:
            say("error", msg="libnice does not read " + line)
            return
        candidates = glib.g_slist_append(None, candidate)
        component = int(fields["candidate"].split(" ")[1])
        nice.nice_agent_set_remote_candidates(self.agent, STREAM, component, candidates)
        glib.g_slist_free(candidates)
        nice.nice_candidate_free(candidate)

    def on_eoc(self, _):
        nice.nice_agent_peer_candidate_gathering_done(self.agent, STREAM)

    def on_send(self, fields):
        data = fields["data"].encode()
        if nice.nice_agent_send(self.agent, STREAM, fields.get("component", COMPONENT), len(data), data) < 0:
            say("error", msg="libnice did not send")

    def on_restart(self, _):
        self.unanswered = True
        nice.nice_agent_restart(self.agent)
        self.tell_credentials()
        nice.nice_agent_gather_candidates(self.agent, STREAM)

    def on_close(self, _):
        say("state", state="closed")
        os._exit(0)

    def of(self, component):
        return {"component": component} if self.components > 1 else {}

    def line(self, candidate):
        text = take_text(nice.nice_agent_generate_local_candidate_sdp(self.agent, candidate))
        return text.removeprefix("a=")

    # Called by libnice, in the thread of the main loop.

    def candidate(self, _agent, candidate, _data):
        say("candidate", candidate=f"{self.line(candidate)} ufrag {self.ufrag}")

    def state(self, _agent, _stream, component, state, _data):
        if state in STATES:
            say("state", state=STATES[state], **self.of(component))

    def selected(self, _agent, _stream, _component, local, remote, _data):
        say("selected", local=self.line(local), remote=self.line(remote))

    def received(self, _agent, _stream, component, length, buffer, _data):
        data = ctypes.string_at(buffer, length).decode(errors="replace")
        say("data", data=data, **self.of(component))


def read_commands(agent):
    for line in sys.stdin:
        try:
            fields = json.loads(line)
            carry_out = getattr(agent, "on_" + fields["cmd"], None)
            if carry_out is None:
                say("error", msg=f"libnice has no {fields['cmd']}")
            else:
                carry_out(fields)
        except (ValueError, KeyError, TypeError) as error:
            say("error", msg=f"{type(error).__name__}: {error}")
    os._exit(0)


loop = glib.g_main_loop_new(None, 0)
threading.Thread(target=read_commands, args=(Agent(),), daemon=True).start()
glib.g_main_loop_run(loop)
