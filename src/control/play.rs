//! The messages to cameras: JSON of contract §2 and the SDP of contract §3, byte for byte.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::SystemTime;

use serde::Serialize;
use uuid::Uuid;

use crate::base::time::{iso8601, ntp_seconds};
use crate::base::{CameraId, StreamId};
use crate::ingest::PortPlan;

/// SSRC that every camera sends its video with (contract §1).
pub const VIDEO_SSRC: u32 = 1_607_797_317;
/// SSRC that every camera sends its audio with (contract §1).
pub const AUDIO_SSRC: u32 = 229_236_353;

/// What varies in the SDP of `play`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaySdp {
    /// The address that the camera is to send to.
    pub ip: IpAddr,
    /// The ports that it is to send to.
    pub ports: PortPlan,
    /// The CNAME that it is to send with.
    pub cname: String,
    /// The numbers of the `o=` line: seconds since 1900.
    pub ntp_seconds: u64,
}

impl PlaySdp {
    /// The SDP for a stream that begins at `now`.
    pub fn new(ip: IpAddr, ports: PortPlan, cname: String, now: SystemTime) -> Self {
        Self { ip, ports, cname, ntp_seconds: ntp_seconds(now) }
    }

    /// The SDP with CR LF line ends.
    ///
    /// First-party cameras refuse or stay silent when the `x-skl-*` lines, `direction:passive`, `goog-remb`
    /// or the session name change, so the text is literal rather than made by an SDP library.
    pub fn to_text(&self) -> String {
        let Self { ip, cname, ntp_seconds, ports: PortPlan { video_rtp, rtcp, audio_rtp } } = self;
        let family = if ip.is_ipv6() { "IP6" } else { "IP4" };
        let mut text = String::with_capacity(1024);
        let mut line = |arguments: std::fmt::Arguments<'_>| {
            let _ = text.write_fmt(arguments);
            text.push_str("\r\n");
        };
        line(format_args!("v=0"));
        line(format_args!("o=- {ntp_seconds} {ntp_seconds} IN {family} {ip}"));
        line(format_args!("s=Kurento Media Server"));
        line(format_args!("c=IN {family} {ip}"));
        line(format_args!("t=0 0"));
        line(format_args!("m=audio {audio_rtp} RTP/AVPF 96 0"));
        line(format_args!("a=sendrecv"));
        line(format_args!("a=rtcp:{rtcp}"));
        line(format_args!("a=rtpmap:96 opus/48000/2"));
        line(format_args!("a=rtpmap:0 PCMU/8000"));
        line(format_args!("a=direction:passive"));
        line(format_args!("a=ssrc:{AUDIO_SSRC} cname:{cname}"));
        line(format_args!("m=video {video_rtp} RTP/AVPF 103"));
        line(format_args!("a=recvonly"));
        line(format_args!("a=direction:passive"));
        line(format_args!("a=rtcp:{rtcp}"));
        line(format_args!("a=rtpmap:103 H264/90000"));
        line(format_args!("a=rtcp-fb:103 nack"));
        line(format_args!("a=rtcp-fb:103 nack pli"));
        line(format_args!("a=rtcp-fb:103 goog-remb"));
        line(format_args!("a=rtcp-fb:103 ccm fir"));
        line(format_args!("a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"));
        line(format_args!("a=ssrc:{VIDEO_SSRC} cname:{cname}"));
        line(format_args!("a=x-skl-ssrca:{AUDIO_SSRC}"));
        line(format_args!("a=x-skl-ssrcv:{VIDEO_SSRC}"));
        line(format_args!("a=x-skl-cname:{cname}"));
        text
    }
}

/// A new CNAME in the form of the old media server, like `user1159302211@host-95b0935a`.
pub fn random_cname() -> String {
    format!("user{}@host-{:08x}", rand::random::<u32>(), rand::random::<u32>())
}

/// Who a message is for and when it is made.
#[derive(Debug, Clone, Copy)]
pub struct Envelope {
    /// The camera.
    pub camera: CameraId,
    /// The stream; the same in all messages of one session.
    pub stream: StreamId,
    /// Fresh for every message.
    pub request_id: Uuid,
    /// `creationTimestamp`.
    pub now: SystemTime,
}

impl Envelope {
    /// An envelope with a fresh request id.
    pub fn new(camera: CameraId, stream: StreamId, now: SystemTime) -> Self {
        Self { camera, stream, request_id: Uuid::new_v4(), now }
    }

    /// The JSON text of `play`.
    pub fn play(&self, sdp: &PlaySdp) -> String {
        self.text(Some(sdp.to_text()), None, "play")
    }

    /// The JSON text of `keepalive`; `count` is 0 in the first one of a session.
    pub fn keepalive(&self, count: u64) -> String {
        self.text(None, Some(count), "keepalive")
    }

    /// The JSON text of `stop`.
    pub fn stop(&self) -> String {
        self.text(None, None, "stop")
    }

    fn text(&self, sdp_offer: Option<String>, keepalive_count: Option<u64>, message_type: &'static str) -> String {
        let message = Message {
            request_id: self.request_id,
            creation_timestamp: iso8601(self.now),
            source_id: self.camera,
            source_type: "hive-cam",
            stream_id: self.stream,
            sdp_offer,
            keepalive_count,
            message_type,
        };
        serde_json::to_string(&message).expect("a struct of strings and numbers always serializes")
    }
}

/// The keys in the order that the contract names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Message {
    request_id: Uuid,
    creation_timestamp: String,
    source_id: CameraId,
    source_type: &'static str,
    stream_id: StreamId,
    #[serde(skip_serializing_if = "Option::is_none")]
    sdp_offer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    keepalive_count: Option<u64>,
    message_type: &'static str,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
    const STREAM: &str = "0a1b2c3d-1111-4222-8333-444455556666";
    const REQUEST: &str = "9f8e7d6c-1111-4222-8333-444455556666";

    fn envelope() -> Envelope {
        Envelope {
            camera: CAMERA.parse().unwrap(),
            stream: STREAM.parse().unwrap(),
            request_id: REQUEST.parse().unwrap(),
            now: UNIX_EPOCH + Duration::new(1_795_569_821, 5_000_000),
        }
    }

    fn sdp() -> PlaySdp {
        PlaySdp {
            ip: "192.168.1.10".parse().unwrap(),
            ports: PortPlan { video_rtp: 5006, rtcp: 5007, audio_rtp: 5008 },
            cname: "user1159302211@host-95b0935a".into(),
            ntp_seconds: 4_004_320_193,
        }
    }

    #[test]
    fn the_sdp_is_the_contracts_text_with_cr_lf() {
        let expected = "\
v=0
o=- 4004320193 4004320193 IN IP4 192.168.1.10
s=Kurento Media Server
c=IN IP4 192.168.1.10
t=0 0
m=audio 5008 RTP/AVPF 96 0
a=sendrecv
a=rtcp:5007
a=rtpmap:96 opus/48000/2
a=rtpmap:0 PCMU/8000
a=direction:passive
a=ssrc:229236353 cname:user1159302211@host-95b0935a
m=video 5006 RTP/AVPF 103
a=recvonly
a=direction:passive
a=rtcp:5007
a=rtpmap:103 H264/90000
a=rtcp-fb:103 nack
a=rtcp-fb:103 nack pli
a=rtcp-fb:103 goog-remb
a=rtcp-fb:103 ccm fir
a=fmtp:103 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f
a=ssrc:1607797317 cname:user1159302211@host-95b0935a
a=x-skl-ssrca:229236353
a=x-skl-ssrcv:1607797317
a=x-skl-cname:user1159302211@host-95b0935a
";
        assert_eq!(sdp().to_text(), expected.replace('\n', "\r\n"));
    }

    #[test]
    fn an_ipv6_address_says_ip6() {
        let text = PlaySdp { ip: "2001:db8::1".parse().unwrap(), ..sdp() }.to_text();
        assert!(text.contains("\r\nc=IN IP6 2001:db8::1\r\n"), "{text}");
    }

    #[test]
    fn play_has_the_contracts_keys_in_order_and_escapes_the_sdp_once() {
        let text = envelope().play(&sdp());
        let head = format!(
            r#"{{"requestId":"{REQUEST}","creationTimestamp":"2026-11-25T01:23:41.005000Z","sourceId":"{CAMERA}","sourceType":"hive-cam","streamId":"{STREAM}","sdpOffer":"v=0\r\no=- "#
        );
        assert!(text.starts_with(&head), "{text}");
        assert!(text.ends_with(r#"\r\n","messageType":"play"}"#), "{text}");
        let decoded: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(decoded["sdpOffer"].as_str().unwrap(), sdp().to_text());
    }

    #[test]
    fn keepalive_and_stop_are_the_contracts_text() {
        let head = format!(
            r#"{{"requestId":"{REQUEST}","creationTimestamp":"2026-11-25T01:23:41.005000Z","sourceId":"{CAMERA}","sourceType":"hive-cam","streamId":"{STREAM}","#
        );
        assert_eq!(envelope().keepalive(0), format!(r#"{head}"keepaliveCount":0,"messageType":"keepalive"}}"#));
        assert_eq!(envelope().stop(), format!(r#"{head}"messageType":"stop"}}"#));
    }

    #[test]
    fn a_cname_looks_like_the_old_servers() {
        let cname = random_cname();
        let (user, host) = cname.split_once("@host-").unwrap();
        assert!(user.strip_prefix("user").unwrap().parse::<u32>().is_ok(), "{cname}");
        assert!(host.len() == 8 && host.bytes().all(|b| b.is_ascii_hexdigit()), "{cname}");
    }
}
