"""A WHEP player on GStreamer's webrtcbin, which decodes with libav. Arguments: URL, frames to decode,
and what else to offer: `data` (a data channel), `unbundled`."""

import sys
import threading

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstSdp", "1.0")
gi.require_version("GstWebRTC", "1.0")
from gi.repository import GLib, Gst, GstSdp, GstWebRTC  # noqa: E402

import whep  # noqa: E402

CODECS = {
    "video": (
        "application/x-rtp,media=video,encoding-name=H264,payload=96,clock-rate=90000,"
        "packetization-mode=(string)1,profile-level-id=(string)42e01f,rtcp-fb-nack-pli=true"
    ),
    "audio": "application/x-rtp,media=audio,encoding-name=OPUS,payload=97,clock-rate=48000,encoding-params=(string)2",
}
DECODERS = {
    "H264": ("video", "queue ! rtph264depay ! h264parse ! avdec_h264"),
    "OPUS": ("audio", "queue ! rtpopusdepay ! opusdec"),
}


class Player:
    """One pipeline, one session."""

    def __init__(self, url, wanted, options):
        self.url, self.wanted = url, wanted
        self.loop = GLib.MainLoop()
        # Without bundling, a second transport would be needed for sound.
        kinds = ["video"] if "unbundled" in options else ["video", "audio"]
        self.frames = dict.fromkeys(kinds, 0)
        self.lock = threading.Lock()
        self.session = None
        self.failed = None
        self.pipeline = Gst.Pipeline.new()
        self.webrtc = Gst.ElementFactory.make("webrtcbin")
        self.options = options
        if "unbundled" not in options:
            self.webrtc.set_property("bundle-policy", GstWebRTC.WebRTCBundlePolicy.MAX_BUNDLE)
        self.pipeline.add(self.webrtc)
        self.webrtc.connect("pad-added", self.on_pad)
        self.webrtc.connect("notify::ice-gathering-state", lambda *_: GLib.idle_add(self.on_gathering))
        self.webrtc.connect("notify::connection-state", self.on_connection)
        for kind in ("video", "audio"):
            direction = GstWebRTC.WebRTCRTPTransceiverDirection.RECVONLY
            self.webrtc.emit("add-transceiver", direction, Gst.Caps.from_string(CODECS[kind]))
        bus = self.pipeline.get_bus()
        bus.add_signal_watch()
        bus.connect("message::error", self.on_error)

    def run(self):
        """Plays until both tracks have delivered."""
        self.pipeline.set_state(Gst.State.PLAYING)
        if "data" in self.options:
            self.webrtc.emit("create-data-channel", "data", None)
        self.webrtc.emit("create-offer", None, Gst.Promise.new_with_change_func(self.on_offer))
        self.loop.run()
        if self.session:
            whep.delete(self.session)
        self.pipeline.set_state(Gst.State.NULL)
        if self.failed:
            whep.say("failed", text=self.failed)
            sys.exit(1)
        whep.say("done")

    def on_offer(self, promise):
        """The offer is made; candidates are still gathered."""
        # The reply owns the offer.
        reply = promise.get_reply()
        offer = reply.get_value("offer")
        self.webrtc.emit("set-local-description", offer, Gst.Promise.new())

    def on_gathering(self):
        """All candidates are in the offer: it can go."""
        state = self.webrtc.get_property("ice-gathering-state")
        if state != GstWebRTC.WebRTCICEGatheringState.COMPLETE or self.session:
            return
        offer = self.webrtc.get_property("local-description").sdp.as_text()
        answer, self.session = whep.post(self.url, offer)
        _, message = GstSdp.SDPMessage.new_from_text(answer)
        answer = GstWebRTC.WebRTCSessionDescription.new(GstWebRTC.WebRTCSDPType.ANSWER, message)
        self.webrtc.emit("set-remote-description", answer, Gst.Promise.new())

    def on_connection(self, *_):
        """For the log of a failed test."""
        whep.say("state", state=self.webrtc.get_property("connection-state").value_nick)

    def on_pad(self, _, pad):
        """A track: decode it."""
        name = pad.get_current_caps().get_structure(0).get_string("encoding-name")
        kind, description = DECODERS[name]
        decoder = Gst.parse_bin_from_description(f"{description} ! appsink name=sink emit-signals=true sync=false", True)
        decoder.get_by_name("sink").connect("new-sample", self.on_sample, kind)
        self.pipeline.add(decoder)
        decoder.sync_state_with_parent()
        pad.link(decoder.get_static_pad("sink"))

    def on_sample(self, sink, kind):
        """A decoded picture, or a piece of sound."""
        caps = sink.emit("pull-sample").get_caps().get_structure(0)
        with self.lock:
            self.frames[kind] += 1
            count, all_there = self.frames[kind], min(self.frames.values()) >= self.wanted
        if count == 1:
            fields = ("width", "height") if kind == "video" else ("rate",)
            whep.say("first", kind=kind, **{field: caps.get_int(field)[1] for field in fields})
        if count == self.wanted:
            whep.say("enough", kind=kind, frames=count)
        if all_there:
            GLib.idle_add(self.loop.quit)
        return Gst.FlowReturn.OK

    def on_error(self, _, message):
        """The pipeline broke."""
        error, detail = message.parse_error()
        self.failed = f"{error.message}: {detail}"
        self.loop.quit()


Gst.init(None)
Player(sys.argv[1], int(sys.argv[2]), sys.argv[3:]).run()
