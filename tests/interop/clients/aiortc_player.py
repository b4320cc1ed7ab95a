"""A WHEP player on aiortc, which decodes with libav. Arguments: URL, frames to decode."""

import asyncio
import sys
import time

from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
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


async def main(url, wanted):
    """Plays until both tracks have delivered."""
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    pc.addTransceiver("audio", direction="recvonly")
    pc.addTransceiver("video", direction="recvonly")
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


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
