//! Messages as the contract writes them, by hand: the tests do not lean on the server's own writer.

use serde_json::json;

pub(super) const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
pub(super) const STREAM: &str = "0a1b2c3d-1111-4222-8333-444455556666";
pub(super) const OTHER_STREAM: &str = "1a1b2c3d-1111-4222-8333-444455556666";

pub(super) const SDP: &str = "v=0\r\n\
o=- 4004320193 4004320193 IN IP4 192.0.2.10\r\n\
s=Kurento Media Server\r\n\
c=IN IP4 192.0.2.10\r\n\
t=0 0\r\n\
m=audio 5008 RTP/AVPF 96 0\r\n\
a=sendrecv\r\n\
a=rtcp:5007\r\n\
a=rtpmap:96 opus/48000/2\r\n\
a=rtpmap:0 PCMU/8000\r\n\
a=direction:passive\r\n\
a=ssrc:229236353 cname:user1159302211@host-95b0935a\r\n\
m=video 5006 RTP/AVPF 103\r\n\
a=recvonly\r\n\
a=direction:passive\r\n\
a=rtcp:5007\r\n\
a=rtpmap:103 H264/90000\r\n\
a=rtcp-fb:103 nack\r\n\
a=rtcp-fb:103 nack pli\r\n\
a=rtcp-fb:103 goog-remb\r\n\
a=rtcp-fb:103 ccm fir\r\n\
a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
a=ssrc:1607797317 cname:user1159302211@host-95b0935a\r\n\
a=x-skl-ssrca:229236353\r\n\
a=x-skl-ssrcv:1607797317\r\n\
a=x-skl-cname:user1159302211@host-95b0935a\r\n";

pub(super) fn play(stream: &str) -> String {
    play_with(stream, SDP)
}

pub(super) fn play_with(stream: &str, sdp: &str) -> String {
    text(stream, "play", ("sdpOffer", json!(sdp)))
}

pub(super) fn keepalive(stream: &str, count: u64) -> String {
    text(stream, "keepalive", ("keepaliveCount", json!(count)))
}

pub(super) fn stop(stream: &str) -> String {
    text(stream, "stop", ("comment", json!(null)))
}

fn text(stream: &str, kind: &str, (key, value): (&str, serde_json::Value)) -> String {
    json!({
        "requestId": "9f8e7d6c-1111-4222-8333-444455556666",
        "creationTimestamp": "2026-11-25T01:23:41.005000Z",
        "sourceId": CAMERA,
        "sourceType": "hive-cam",
        "streamId": stream,
        key: value,
        "messageType": kind,
    })
    .to_string()
}
