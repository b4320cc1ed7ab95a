"""A WHEP player on aiortc, which decodes with libav. Arguments: URL, frames to decode, and what else to
offer: `data` (a data channel), `sendrecv`, `unbundled`."""

import asyncio
import sys
import time

from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamError

import whep


async def receive(track, wanted):
    """Takes frames until there are enough."""
    first = None
    for count in range(1, wanted + 1):
        try:
            frame = await track.recv()
        except MediaStreamError:
            whep.say("track-ended", kind=track.kind, frames=count - 1)
            return
        if first is None:
            first = time.monotonic()
            size = {"width": frame.width, "height": frame.height} if track.kind == "video" else {"rate": frame.sample_rate}
            whep.say("first", kind=track.kind, key=getattr(frame, "key_frame", None), **size)
    whep.say("enough", kind=track.kind, frames=wanted)


async def main(url, wanted, options):
    """Plays until all tracks have delivered."""
    policy = RTCBundlePolicy.MAX_COMPAT if "unbundled" in options else RTCBundlePolicy.MAX_BUNDLE
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=policy))
    direction = "sendrecv" if "sendrecv" in options else "recvonly"
    pc.addTransceiver("audio", direction=direction)
    pc.addTransceiver("video", direction=direction)
    if "data" in options:
        pc.createDataChannel("data")
    tracks = []
    pc.on("track", lambda track: tracks.append(asyncio.ensure_future(receive(track, wanted))))
    pc.on("connectionstatechange", lambda: whep.say("state", state=pc.connectionState))
    await pc.setLocalDescription(await pc.createOffer())
    answer, session = await asyncio.to_thread(whep.post, url, pc.localDescription.sdp)
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await asyncio.gather(*tracks)
    await asyncio.to_thread(whep.delete, session)
    await pc.close()
    whep.say("done")


asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
