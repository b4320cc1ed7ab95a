//! One fault each, on loopback, with what is expected of it in the name.

use std::time::{Duration, SystemTime};

use honeycast::sim::{Fault, RtcpSending, SimSettings};

use crate::site::{Camera, Site, address};
use crate::support::mosquitto::{Mosquitto, Options};
use crate::{LOOK, until, within};

/// Enough to see that a stream goes on: 2 s of pictures.
const PICTURES: u32 = 20;

/// A camera that is watched.
async fn watched(change: impl FnOnce(&mut SimSettings)) -> (Site, Camera) {
    let site = Site::new(&[]);
    site.broker_is_there().await;
    let mut settings = site.settings(0);
    change(&mut settings);
    let mut camera = site.camera(settings).await;
    site.start(&mut camera).await;
    camera.shows(PICTURES).await;
    (site, camera)
}

/// The camera goes on after a fault; to its viewer it is the same stream.
async fn goes_on(site: Site, camera: Camera) {
    camera.shows(PICTURES).await;
    camera.was_alone();
    camera.was_continuous();
    let detail = site.detail(&camera).await;
    assert_eq!(detail["stream"]["stream_id"].as_str(), camera.stream.as_deref());
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_reboot_the_viewers_numbering_goes_on() {
    let (site, camera) = watched(|_| {}).await;
    camera.sim.suffer(Fault::Reboot);
    until("it plays again", async || camera.report().plays == 2).await;
    goes_on(site, camera).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_whose_nat_forgets_goes_on_from_other_ports() {
    let (site, camera) = watched(|_| {}).await;
    let before = site.detail(&camera).await["stream"]["media"]["sources"]["video"].clone();
    camera.sim.suffer(Fault::Rebind);
    camera.shows(PICTURES).await;
    let after = site.detail(&camera).await["stream"]["media"]["sources"]["video"].clone();
    assert!(before.is_string() && after.is_string() && before != after, "{before} {after}");
    camera.was_alone();
    camera.went_forward();
    // To the camera it is one stream; what it has sent in vain is missing, and no more than the 3 s of silence.
    let lost = camera.tally().missing;
    assert!(lost < 100, "{lost} are missing");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_with_a_new_address_goes_on_from_there() {
    let (site, camera) = watched(|_| {}).await;
    camera.sim.suffer(Fault::Move(address(99)));
    camera.shows(PICTURES).await;
    let after = site.detail(&camera).await["stream"]["media"]["sources"]["video"].clone();
    assert!(after.as_str().unwrap().starts_with(&format!("{}:", address(99))), "{after}");
    camera.was_alone();
    camera.went_forward();
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_that_changes_its_ssrcs_and_numbers_goes_on_and_gets_feedback_on_the_new_ones() {
    let (site, camera) = watched(|_| {}).await;
    camera.sim.suffer(Fault::ChangeSource);
    // Only what names the present source counts.
    let before = camera.report().feedback.rr;
    until("feedback on the new source", async || camera.report().feedback.rr > before + 2).await;
    goes_on(site, camera).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_and_times_that_wrap_around_are_not_noticed() {
    let (site, camera) = watched(|settings| settings.faults.near_wrap = true).await;
    // 100 packets and 3 s to the ends.
    until("it has wrapped around", async || {
        camera.report().packets_sent > 150 && camera.report().streaming_seconds > 4.0
    })
    .await;
    goes_on(site, camera).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imitator_behind_the_same_address_never_gets_through_while_the_camera_lives() {
    let (site, camera) = watched(|_| {}).await;
    let mut imitator = site.settings(1);
    imitator.bind = camera.ip;
    imitator.faults.imitate = Some(site.ports());
    let near = site.switch_on(imitator.clone());
    imitator.bind = address(7);
    let far = site.switch_on(imitator.nth(1));
    until("they have sent much", async || [&near, &far].iter().all(|imitator| imitator.report().packets_sent > 100))
        .await;
    assert!(near.report().feedback.count == 0 && far.report().feedback.count == 0, "they were answered");
    goes_on(site, camera).await;
}

/// Cameras behind one address lose their power together and return together.
async fn return_from_a_power_cut(count: u32, change: impl Fn(&mut SimSettings)) {
    let site = Site::new(&[]);
    site.broker_is_there().await;
    let mut cameras = Vec::new();
    for n in 0..count {
        let mut settings = site.settings(n);
        settings.bind = address(1);
        change(&mut settings);
        let mut camera = site.camera(settings).await;
        site.start(&mut camera).await;
        cameras.push(camera);
    }
    all_show(&cameras).await;
    for camera in &cameras {
        camera.sim.suffer(Fault::Reboot);
    }
    for camera in &cameras {
        until("it plays again", async || camera.report().plays >= 2).await;
    }
    all_show(&cameras).await;
    for camera in &cameras {
        camera.was_alone();
        camera.went_forward();
        let detail = site.detail(camera).await;
        assert_eq!(detail["stream"]["stream_id"].as_str(), camera.stream.as_deref());
    }
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cameras_behind_one_address_that_return_at_once_from_a_power_cut_are_all_back_and_none_is_mixed_up() {
    return_from_a_power_cut(4, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn so_are_cameras_that_take_longer_to_play_and_stop_than_their_first_turn_lasts() {
    return_from_a_power_cut(2, |settings| settings.behaviour.reaction = Duration::from_secs(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_all_camera_ports_is_counted_by_reason_never_answered_and_costs_a_running_stream_nothing() {
    let kinds: [(&str, &[u8]); 6] = [
        ("not_rtp", b"GET / HTTP/1.1\r\nHost: camera\r\n\r\n"),
        // A STUN binding request, and a wrong version.
        ("not_rtp", &[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("not_rtp", &[0x40, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]),
        // An extension, and report blocks, beyond the end.
        ("malformed_rtp", &[0x90, 103, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0xbe, 0xde, 0xff, 0xff]),
        ("malformed_rtcp", &[0x9f, 201, 0, 1, 0, 0, 0, 9]),
        ("payload_type", &[0x80, 111, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]),
    ];
    const ROUNDS: usize = 150;
    let (site, camera) = watched(|_| {}).await;
    let ports = site.ports();
    let socket = tokio::net::UdpSocket::bind((address(9), 0)).await.unwrap();
    let mut beat = tokio::time::interval(Duration::from_millis(10));
    for _ in 0..ROUNDS {
        beat.tick().await;
        for (_, bytes) in &kinds {
            for port in [ports.video, ports.rtcp, ports.audio] {
                socket.send_to(bytes, port).await.unwrap();
            }
        }
    }
    let sent = |reason: &str| kinds.iter().filter(|(of, _)| *of == reason).count() * ROUNDS * 3;
    until("all are counted", async || {
        let dropped = site.call("GET", "/sources").await.1["dropped"].clone();
        kinds.iter().all(|(reason, _)| dropped[*reason].as_u64() == Some(sent(reason) as u64))
    })
    .await;
    camera.shows(PICTURES).await;
    let answer = socket.try_recv(&mut [0; 1500]);
    assert!(answer.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "somebody answered");
    goes_on(site, camera).await;
}

async fn is_heard_after(seconds: u64) {
    let (site, camera) = watched(|settings| settings.faults.audio_after = Duration::from_secs(seconds)).await;
    until("sound", async || camera.tally().sounds > 20).await;
    goes_on(site, camera).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_comes_two_seconds_after_the_picture_is_heard() {
    is_heard_after(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_that_comes_late_is_heard_where_nobody_else_could_be_meant() {
    is_heard_after(5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_camera_with_an_rtcp_socket_for_each_medium_gets_its_feedback() {
    let (site, camera) = watched(|settings| settings.behaviour.rtcp = RtcpSending::OwnPortEach).await;
    let before = camera.report().feedback;
    until("it goes on getting feedback", async || camera.report().feedback.count > before.count + 3).await;
    assert!(camera.report().feedback.max_gap_seconds < 5.0, "{:?}", camera.report().feedback);
    goes_on(site, camera).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_doubled_late_and_swapped_packets_show_nobody_elses_pictures_and_nothing_twice() {
    let (site, camera) = watched(|settings| {
        let faults = &mut settings.faults;
        (faults.loss_percent, faults.loss_burst) = (5.0, 3);
        (faults.reorder_percent, faults.duplicate_percent) = (5.0, 2.0);
        faults.jitter = Duration::from_millis(30);
    })
    .await;
    camera.shows(PICTURES).await;
    camera.was_alone();
    assert_eq!(camera.tally().twice, 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_broker_restarts_twenty_streams_lose_nothing_and_keepalives_are_back_within_two_seconds() {
    let mut broker = Mosquitto::start(Options::plain());
    let site = Site::with_broker(broker.port());
    site.broker_is_there().await;
    let mut cameras = Vec::new();
    for n in 0..20 {
        cameras.push(site.camera(site.settings(n)).await);
    }
    for camera in &mut cameras {
        site.start(camera).await;
    }
    all_show(&cameras).await;
    broker.kill();
    until("the service has noticed", async || site.call("GET", "/health").await.1["status"] == "degraded").await;
    all_show(&cameras).await;
    tokio::task::block_in_place(|| broker.restart());
    let back = SystemTime::now();
    // Side by side, or a later keepalive would be taken for the first.
    let first = cameras.iter().map(|camera| first_keepalive(&site, camera, back));
    let first = within("keepalives after the restart", futures_util::future::join_all(first)).await;
    for (camera, at) in cameras.iter().zip(first) {
        let after = at.duration_since(back).unwrap();
        assert!(after <= Duration::from_secs(2), "{}: {after:?}", camera.id);
    }
    all_show(&cameras).await;
    for camera in &cameras {
        camera.was_alone();
        camera.was_continuous();
        assert!(camera.report().keepalive_gaps <= 1, "{:?}", camera.report());
    }
    site.end().await;
}

/// All of them show pictures that they have not yet taken.
async fn all_show(cameras: &[Camera]) {
    futures_util::future::join_all(cameras.iter().map(|camera| camera.shows(PICTURES))).await;
}

/// When the broker took a camera's first keepalive after `back`: looks more often than there are keepalives.
async fn first_keepalive(site: &Site, camera: &Camera, back: SystemTime) -> SystemTime {
    loop {
        let detail = site.detail(camera).await;
        let last = detail["stream"]["keepalive_stats"]["last_success"].as_str();
        let last = last.map(|text| text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
        let last = last.map(|micros| SystemTime::UNIX_EPOCH + Duration::from_micros(micros.try_into().unwrap()));
        match last.filter(|at| *at > back) {
            Some(first) => return first,
            None => tokio::time::sleep(LOOK).await,
        }
    }
}
