//! A viewer that is not ours watches a simulated camera through the binary: signaling, ICE, DTLS, SRTP, RTCP.

#![cfg(feature = "embedded-broker")]
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod page;
mod peer;
mod runtime;

use std::collections::BTreeSet;

use honeycast::base::Shutdown;
use honeycast::sim::{Codec, Fault, Mark, RtcpSending, Sim, SimSettings};
use page::{Answer, Page};
use peer::{Incoming, Viewer, lose_picture, speak};
use rtc::peer_connection::transport::RTCDtlsTransportState;
use serde_json::Value;
use support::service::Service;
use support::{until, within};

const CAMERA: &str = "56C1CADCF1FA4C6CAEBA3E2FD85EFEBF";
/// Enough to see that a stream goes on: 2 s of pictures.
const PICTURES: usize = 50;

/// A viewer that is connected.
struct Watching {
    page: Page,
    answer: Answer,
    video: Incoming,
    audio: Incoming,
}

/// The service, and a camera that streams.
struct Site {
    service: Service,
    sim: Sim,
    stream: String,
    shutdown: Shutdown,
}

impl Site {
    async fn streaming() -> Self {
        Self::of(|_| {}).await
    }

    /// The service, and a camera with ways of its own.
    async fn of(change: impl FnOnce(&mut SimSettings)) -> Self {
        let service = Service::start(&[("LOCAL_IP", "127.0.0.1"), ("EXTERNAL_IP", "127.0.0.1")]);
        let (host, port) = service.address("mqtt").rsplit_once(':').unwrap();
        let mut settings = SimSettings::new(CAMERA.parse().unwrap(), host, port.parse().unwrap());
        settings.bind = [127, 0, 0, 1].into();
        change(&mut settings);
        let shutdown = Shutdown::new();
        let sim = Sim::start(settings, &shutdown).unwrap();
        until("the camera is connected", async || sim.report().mqtt_connected).await;
        until("the service is connected", async || call(&service, "GET", "/health").1["status"] == "healthy").await;
        let (status, started) = call(&service, "POST", &format!("/streams/{CAMERA}/start"));
        assert_eq!(status, 201, "{started}");
        let stream = started["stream_id"].as_str().unwrap().to_owned();
        Self { service, sim, stream, shutdown }
    }

    async fn page(&self) -> Page {
        Page::open(self.service.address("signaling")).await
    }

    /// Lets the viewer watch, on a page of its own, until it is connected.
    async fn join(&self, viewer: &mut Viewer) -> Watching {
        let mut page = self.page().await;
        let answer = page.watch(CAMERA, &self.stream, &viewer.offer().await).await;
        let (video, audio) = viewer.accept(&answer).await;
        page.send_candidate(&viewer.candidate().await).await;
        viewer.connected().await;
        Watching { page, answer, video, audio }
    }

    async fn viewer_count_becomes(&self, count: usize) {
        let path = format!("/streams/{CAMERA}");
        until(&format!("viewer_count is {count}"), async || {
            let (status, detail) = call(&self.service, "GET", &path);
            assert_eq!(status, 200, "{detail}");
            detail["viewer_count"] == count
        })
        .await;
    }

    /// Waits until the API names this codec of the sound.
    async fn sounds_like(&self, codec: &str) {
        let path = format!("/streams/{CAMERA}");
        until(&format!("the sound is {codec}"), async || {
            call(&self.service, "GET", &path).1["stream"]["media"]["audio"]["codec"]["name"] == codec
        })
        .await;
    }

    /// What the API says of the only viewer.
    fn viewer_stat(&self, name: &str) -> u64 {
        let (_, viewers) = call(&self.service, "GET", &format!("/viewers/{CAMERA}"));
        viewers["viewers"][0]["stats"][name].as_u64().unwrap_or_else(|| panic!("no {name} in {viewers}"))
    }

    async fn end(self) {
        self.shutdown.request();
        within("the camera ends", self.shutdown.drained()).await;
    }
}

/// A call that may take long without holding up the viewers of the test.
fn call(service: &Service, method: &str, path: &str) -> (u16, Value) {
    tokio::task::block_in_place(|| service.call(method, path))
}

/// Pictures with growing times, which [`Incoming`] has put in an order without holes.
async fn plays(video: &mut Incoming) {
    let mut last = video.picture().await.timestamp;
    for _ in 0..PICTURES {
        last = after(last, video.picture().await.timestamp);
    }
}

/// The later time, which must be later by less than a second.
fn after(last: u32, next: u32) -> u32 {
    let step = next.wrapping_sub(last);
    assert!(0 < step && step < 90_000, "from {last} to {next}");
    next
}

async fn sounds(audio: &mut Incoming) {
    let mut last = audio.packet().await.header.timestamp;
    for _ in 0..PICTURES {
        let packet = audio.packet().await;
        assert!(!packet.payload.is_empty());
        assert_eq!(packet.header.timestamp.wrapping_sub(last), 960, "20 ms");
        last = packet.header.timestamp;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_gets_pictures_from_a_keyframe_on_and_sound_and_reports_of_both() {
    let site = Site::streaming().await;
    let mut viewer = Viewer::recvonly().await;
    let Watching { page: _page, answer, mut video, mut audio } = site.join(&mut viewer).await;
    assert_eq!((answer.codec("video"), answer.codec("audio")), ("H264/90000", "opus/48000/2"));

    let types = video.picture().await.nal_types();
    let place = |nal| types.iter().position(|found| *found == nal).unwrap_or_else(|| panic!("no {nal} in {types:?}"));
    assert!(place(7) < place(8) && place(8) < place(5), "SPS, PPS, IDR: {types:?}");
    plays(&mut video).await;
    sounds(&mut audio).await;

    let mut streams = BTreeSet::new();
    for (track, media) in viewer.tracks().await.iter().zip(["video", "audio"]) {
        let ssrc = track.ssrcs().await[0];
        let codec = track.codec(ssrc).await.unwrap().mime_type.to_lowercase();
        assert_eq!((ssrc, codec.starts_with(media)), (answer.ssrc(media), true), "{codec}");
        streams.insert(track.stream_id().await);
    }
    assert_eq!(streams.len(), 1, "pages take both from one stream");

    for (incoming, media) in [(&mut video, "video"), (&mut audio, "audio")] {
        let (report, cname) = incoming.report().await;
        assert_eq!((report.ssrc, cname.as_str()), (answer.ssrc(media), answer.cname(media)));
        let (next, _) = incoming.report().await;
        assert!(next.packet_count > report.packet_count && next.octet_count > report.octet_count);
        assert!(next.ntp_time > report.ntp_time);
        assert!(next.rtp_time.wrapping_sub(report.rtp_time) < 1 << 31);
    }
    site.viewer_count_becomes(1).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_viewers_have_sources_of_their_own_and_one_that_leaves_does_not_disturb_the_other() {
    let site = Site::streaming().await;
    let (mut leaver, mut stayer) = (Viewer::recvonly().await, Viewer::recvonly().await);
    let mut left = site.join(&mut leaver).await;
    let mut stayed = site.join(&mut stayer).await;
    let sources: BTreeSet<u32> = [&left.answer, &stayed.answer]
        .iter()
        .flat_map(|answer| ["video", "audio"].map(|media| answer.ssrc(media)))
        .collect();
    assert_eq!(sources.len(), 4);
    assert!(left.video.picture().await.is_keyframe() && stayed.video.picture().await.is_keyframe());
    plays(&mut left.video).await;
    site.viewer_count_becomes(2).await;

    left.page.stop().await;
    assert_eq!(left.page.close_code().await, 1000);
    site.viewer_count_becomes(1).await;
    until("the one that left is cut off", async || leaver.dtls().await == RTCDtlsTransportState::Closed).await;
    // Without a hole since its first packet.
    plays(&mut stayed.video).await;
    sounds(&mut stayed.audio).await;
    assert_eq!(stayer.dtls().await, RTCDtlsTransportState::Connected);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_lost_the_picture_gets_the_group_of_pictures_again() {
    let site = Site::streaming().await;
    let mut viewer = Viewer::recvonly().await;
    let Watching { page: _page, mut video, .. } = site.join(&mut viewer).await;
    let [track, _] = viewer.tracks().await;
    let first = video.picture().await;
    assert!(first.is_keyframe());
    // The camera does not obey PLI, and no two keyframes of its clip in a row are alike: the same one twice has
    // been sent again.
    let (mut keyframe, mut time) = (first.payloads(), first.timestamp);
    let asking = async {
        loop {
            // Asked with each picture, as soon after another start nothing is sent again.
            lose_picture(&track).await;
            let picture = video.picture().await;
            time = after(time, picture.timestamp);
            if picture.is_keyframe() {
                if picture.payloads() == keyframe {
                    break;
                }
                keyframe = picture.payloads();
            }
        }
    };
    within("the same keyframe again", asking).await;
    plays(&mut video).await;
    assert!(site.viewer_stat("plis") > 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_viewer_lost_is_sent_again() {
    let site = Site::streaming().await;
    let mut viewer = Viewer::recvonly().await;
    let Watching { page: _page, mut video, .. } = site.join(&mut viewer).await;
    assert!(video.picture().await.is_keyframe());
    viewer.lose_packets();
    // Without a hole all the same.
    plays(&mut video).await;
    assert!(video.recovered > 0, "nothing was lost");
    assert!(site.viewer_stat("nacks") > 0 && site.viewer_stat("retransmissions") > 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_stopped_is_said_to_be_so_and_closes_socket_and_dtls() {
    let site = Site::streaming().await;
    let mut viewer = Viewer::recvonly().await;
    let Watching { mut page, mut video, .. } = site.join(&mut viewer).await;
    plays(&mut video).await;

    let (status, stopped) = call(&site.service, "POST", &format!("/streams/{CAMERA}/stop"));
    assert_eq!((status, &stopped["success"]), (200, &true.into()), "{stopped}");
    let mut message = page.hear().await;
    while message["type"] == "iceCandidate" {
        message = page.hear().await;
    }
    assert_eq!((&message["type"], &message["message"]), (&"error".into(), &"Stream stopped".into()));
    assert_eq!(page.close_code().await, 1000);
    until("DTLS is closed", async || viewer.dtls().await == RTCDtlsTransportState::Closed).await;
    let (_, viewers) = call(&site.service, "GET", &format!("/viewers/{CAMERA}"));
    assert_eq!(viewers["count"], 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_offer_to_send_is_answered_and_plays_and_what_is_sent_is_ignored() {
    let site = Site::streaming().await;
    let mut viewer = Viewer::sendrecv().await;
    let mut page = site.page().await;
    let offer = viewer.offer().await;
    assert_eq!(offer.matches("a=sendrecv").count(), 2, "{offer}");
    let mut answer = page.watch(CAMERA, &site.stream, &offer).await;
    assert_eq!(answer.0.matches("a=sendonly").count(), 2, "{}", answer.0);
    // A viewer that sends all the same: it is told that it may.
    answer.0 = answer.0.replace("a=sendonly", "a=sendrecv");
    let (mut video, mut audio) = viewer.accept(&answer).await;
    page.send_candidate(&viewer.candidate().await).await;
    viewer.connected().await;

    assert!(video.picture().await.is_keyframe());
    let microphone = viewer.microphone.take().unwrap();
    for number in 0..PICTURES as u16 {
        speak(&microphone, answer.payload_type("audio"), number).await;
        video.picture().await;
    }
    plays(&mut video).await;
    sounds(&mut audio).await;
    assert!(viewer.sent() > 0, "nothing was sent");
    assert_eq!(site.sim.report().rtp_received, 0);
    assert_eq!(viewer.dtls().await, RTCDtlsTransportState::Connected);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pcmu_is_preferred_and_forwarded_where_the_camera_sends_it_and_opus_after_it_when_the_camera_switches() {
    let site = Site::of(|settings| settings.behaviour.audio = Some(Codec::Pcmu)).await;
    site.sounds_like("pcmu").await;
    let mut viewer = Viewer::recvonly().await;
    let Watching { page: _page, answer, mut audio, .. } = site.join(&mut viewer).await;
    assert_eq!((answer.payload_type("audio"), answer.codec("audio")), (0, "PCMU/8000"));
    assert!(answer.section("audio").iter().any(|line| line.ends_with(" opus/48000/2")), "{}", answer.0);

    let mut last = audio.packet().await;
    for _ in 0..PICTURES {
        let packet = audio.packet().await;
        assert_eq!((packet.header.payload_type, packet.payload.len()), (0, 160));
        assert_eq!(packet.header.timestamp.wrapping_sub(last.header.timestamp), 160, "20 ms");
        last = packet;
    }
    let (report, _) = audio.report().await;
    let off = report.rtp_time.wrapping_sub(last.header.timestamp) as i32;
    assert!(off.abs() < 8_000 * 5, "a report in another clock: {off}");

    site.sim.suffer(Fault::SwitchSound);
    // In one numbering, which `Incoming` sees to.
    while last.header.payload_type == 0 {
        last = audio.packet().await;
    }
    site.sounds_like("opus").await;
    for _ in 0..PICTURES {
        let packet = audio.packet().await;
        assert_eq!(packet.header.timestamp.wrapping_sub(last.header.timestamp), 960, "20 ms");
        last = packet;
    }
    assert_eq!(site.viewer_stat("audio_unplayable"), 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_that_does_not_take_the_cameras_codec_sees_the_picture_and_the_api_says_why_it_hears_nothing() {
    let site = Site::of(|settings| settings.behaviour.audio = Some(Codec::Pcmu)).await;
    site.sounds_like("pcmu").await;
    let mut viewer = Viewer::recvonly().await;
    let mut page = site.page().await;
    // To the server it is a viewer without PCMU.
    let offer = viewer.offer().await.replace("PCMU/8000", "G723/8000");
    let answer = page.watch(CAMERA, &site.stream, &offer).await;
    assert_eq!(answer.codec("audio"), "opus/48000/2");
    let (mut video, _audio) = viewer.accept(&answer).await;
    page.send_candidate(&viewer.candidate().await).await;
    viewer.connected().await;
    plays(&mut video).await;
    until("it is said", async || site.viewer_stat("audio_unplayable") > 0).await;
    let (_, viewers) = call(&site.service, "GET", &format!("/viewers/{CAMERA}"));
    assert_eq!(viewers["viewers"][0]["stats"]["audio_codecs"], serde_json::json!(["opus"]));
    site.end().await;
}

/// When something was captured, in seconds of the server's clock: by the last report before or after it.
async fn captured(incoming: &mut Incoming, timestamp: u32, rate: f64) -> f64 {
    loop {
        let (report, _) = incoming.report().await;
        let ahead = f64::from(timestamp.wrapping_sub(report.rtp_time) as i32) / rate;
        if ahead.abs() < 1.5 {
            return report.ntp_time as f64 / 2f64.powi(32) + ahead;
        }
    }
}

/// Pictures and sounds of the camera say which they are, and so when they were made.
async fn are_in_step(rtcp: RtcpSending) {
    let site = Site::of(|settings| settings.behaviour.rtcp = rtcp).await;
    let mut viewer = Viewer::recvonly().await;
    let Watching { page: _page, mut video, mut audio, .. } = site.join(&mut viewer).await;
    // Beyond the camera's second report, and our next ones.
    let mut picture = video.picture().await;
    for _ in 0..2 * PICTURES {
        picture = video.picture().await;
    }
    let shown = picture.payloads().iter().find_map(|payload| Mark::in_video(payload)).unwrap().number;
    // 40 ms a picture, 20 ms a sound.
    let sound = loop {
        let packet = audio.packet().await;
        if Mark::in_audio(&packet.payload).unwrap().number == 2 * shown {
            break packet;
        }
    };
    let picture = captured(&mut video, picture.timestamp, 90_000.0).await;
    let sound = captured(&mut audio, sound.header.timestamp, 48_000.0).await;
    assert!((picture - sound).abs() <= 0.040, "{:.1} ms apart", (picture - sound).abs() * 1_000.0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_and_picture_of_one_moment_are_reported_as_such() {
    are_in_step(RtcpSending::OwnPort).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_and_picture_of_one_moment_are_reported_as_such_where_the_camera_reports_nothing() {
    are_in_step(RtcpSending::None).await;
}
