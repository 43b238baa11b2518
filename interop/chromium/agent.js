// What a web application does with signaling, in the words of `nilas agent`. `say` leads to agent.py.
"use strict";

let connection = null;
let remote = null; // the username fragment of the other side
let told = null; // our own that the other side knows
let tcpOnly = false; // neither side is told of UDP
let early = []; // candidates whose generation is not known yet
let turn = Promise.resolve(); // one thing after the other, as negotiation wants

const tell = (ev, fields = {}) => say(JSON.stringify({ ev, ...fields }));

const attribute = (sdp, name) => sdp.match(new RegExp(`^a=${name}:(\\S+)`, "m"))?.[1];

const ufragOf = (line) => line.match(/ ufrag (\S+)/)?.[1];

/** The other side's parameters as a description. Nobody has the key of that fingerprint. */
function description(type, { ufrag, pwd, lite }) {
  const lines = [
    "v=0",
    "o=- 1 1 IN IP4 127.0.0.1",
    "s=-",
    "t=0 0",
    "a=group:BUNDLE 0",
    ...(lite ? ["a=ice-lite"] : []),
    "m=application 9 UDP/DTLS/SCTP webrtc-datachannel",
    "c=IN IP4 0.0.0.0",
    "a=mid:0",
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${pwd}`,
    "a=ice-options:trickle",
    `a=fingerprint:sha-256 ${Array(32).fill("AB").join(":")}`,
    // So that Chromium waits for a handshake, which never comes.
    "a=setup:active",
    "a=sctp-port:5000",
    "",
  ];
  return { type, sdp: lines.join("\r\n") };
}

async function describe(local) {
  await connection.setLocalDescription(local);
  const sdp = connection.localDescription.sdp;
  const ufrag = attribute(sdp, "ice-ufrag");
  if (ufrag !== told) {
    told = ufrag;
    tell("params", { ufrag, pwd: attribute(sdp, "ice-pwd"), options: ["trickle"] });
  }
  const transport = connection.sctp?.transport.iceTransport;
  if (transport) transport.onselectedcandidatepairchange = () => tellSelected(transport);
}

function tellSelected(transport) {
  const pair = transport.getSelectedCandidatePair();
  if (pair) tell("selected", { local: pair.local.candidate, remote: pair.remote.candidate });
}

async function offer(iceRestart) {
  await describe(await connection.createOffer({ iceRestart }));
}

const isUdp = (line) => line.split(" ")[2].toLowerCase() === "udp";

async function add(line) {
  if (tcpOnly && isUdp(line)) return;
  const ufrag = ufragOf(line);
  if (ufrag !== undefined && ufrag !== remote) {
    early.push(line);
    return;
  }
  await connection.addIceCandidate({ candidate: line, sdpMid: "0", usernameFragment: ufrag });
}

const commands = {
  async start({ controlling, stun, turn: server, iceServers = [], relayOnly, tcp }) {
    tcpOnly = Boolean(tcp);
    if (tcpOnly) await navigator.mediaDevices.getUserMedia({ audio: true });
    const servers = [...iceServers];
    if (stun) servers.push({ urls: `stun:${stun}` });
    if (server) {
      const { host, port, transport, user, pass } = server;
      servers.push({ urls: `turn:${host}:${port}?transport=${transport}`, username: user, credential: pass });
    }
    connection = new RTCPeerConnection({
      iceServers: servers,
      iceTransportPolicy: relayOnly ? "relay" : "all",
    });
    connection.onicecandidate = ({ candidate }) => {
      if (!candidate?.candidate) return;
      const { candidate: line, usernameFragment } = candidate;
      if (tcpOnly && isUdp(line)) return;
      tell("candidate", { candidate: `${line.replace(/ ufrag \S+/, "")} ufrag ${usernameFragment}` });
    };
    connection.onicegatheringstatechange = () => {
      if (connection.iceGatheringState === "complete") tell("eoc");
    };
    connection.oniceconnectionstatechange = () => tell("state", { state: connection.iceConnectionState });
    tell("state", { state: "new" });
    if (controlling) {
      connection.createDataChannel("data");
      await offer(false);
    }
  },
  async remote(fields) {
    remote = fields.ufrag;
    if (connection.signalingState === "have-local-offer") {
      await connection.setRemoteDescription(description("answer", fields));
    } else {
      await connection.setRemoteDescription(description("offer", fields));
      await describe(await connection.createAnswer());
    }
    const lines = early;
    early = [];
    for (const line of lines) await add(line);
  },
  async candidate({ candidate }) {
    await add(candidate);
  },
  async eoc() {
    if (remote !== null) await connection.addIceCandidate(null);
  },
  async restart() {
    await offer(true);
  },
  async stats() {
    tell("stats", { stats: [...(await connection.getStats()).values()] });
  },
};

function take(command) {
  turn = turn.then(async () => {
    try {
      const carryOut = commands[command.cmd];
      if (!carryOut) throw new Error(`this driver of Chromium has no ${command.cmd}`);
      await carryOut(command);
    } catch (error) {
      tell("error", { msg: `${command.cmd}: ${error.message}` });
    }
  });
}
