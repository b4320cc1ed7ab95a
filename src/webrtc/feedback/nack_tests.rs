use super::*;

const MS: Duration = Duration::from_millis(1);

/// Requests of a second, by time since the start in milliseconds.
struct Scene {
    nacks: Nacks,
    start: Instant,
    now: Instant,
    asked: Vec<(u128, u16)>,
}

impl Scene {
    fn new() -> Self {
        let mut nacks = Nacks::new(Ssrc(1));
        nacks.bind(&StreamInfo { ssrc: 7, mime_type: "video/H264".into(), ..Default::default() });
        let start = Instant::now();
        Self { nacks, start, now: start, asked: Vec::new() }
    }

    fn arrive(&mut self, seqs: impl IntoIterator<Item = u16>) {
        for seq in seqs {
            self.nacks.video.as_mut().unwrap().on_packet(SeqNo(seq), self.now);
        }
    }

    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(due) = self.nacks.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let video = self.nacks.video.as_mut().unwrap();
            let at = (self.now - self.start).as_millis();
            self.asked.extend(video.due(self.now, usize::MAX).into_iter().map(|seq| (at, seq)));
        }
        self.now = end;
    }
}

#[test]
fn a_gap_is_asked_for_after_30_ms_and_three_times_at_most() {
    let mut s = Scene::new();
    s.arrive([65_534, 0, 1]);
    s.run(1_000 * MS);
    assert_eq!(s.asked, [(30, 65_535), (110, 65_535), (190, 65_535)]);
    assert_eq!(s.nacks.poll_timeout(), None, "nothing missing, nothing to wake up for");
}

#[test]
fn a_packet_that_was_only_overtaken_is_not_asked_for() {
    let mut s = Scene::new();
    s.arrive([1, 2, 4]);
    s.run(20 * MS);
    s.arrive([3]);
    s.run(1_000 * MS);
    assert_eq!(s.asked, []);
}

#[test]
fn a_repetition_ends_the_asking() {
    let mut s = Scene::new();
    s.arrive([1, 3, 5]);
    s.run(50 * MS);
    s.arrive([2]);
    s.run(1_000 * MS);
    assert_eq!(s.asked.iter().filter(|(_, seq)| *seq == 2).count(), 1);
    assert_eq!(s.asked.iter().filter(|(_, seq)| *seq == 4).count(), 3);
}

#[test]
fn what_viewers_can_no_longer_use_is_not_asked_for() {
    let mut s = Scene::new();
    s.arrive([1, 3]);
    // The driver was busy elsewhere.
    s.now += MAX_AGE;
    s.run(1_000 * MS);
    assert_eq!(s.asked, []);
}

#[test]
fn an_outage_is_not_asked_for() {
    let mut s = Scene::new();
    s.arrive([1, 2 + MAX_MISSING as u16 + 1]);
    s.run(1_000 * MS);
    assert_eq!(s.asked, []);
}

#[test]
fn requests_are_at_most_a_quarter_of_what_arrives_and_share_packets() {
    let mut nacks = Nacks::new(Ssrc(1));
    nacks.bind(&StreamInfo { ssrc: 7, mime_type: "video/H264".into(), ..Default::default() });
    let (start, mut sent, mut asked) = (Instant::now(), 0, 0);
    for n in 0..10_000u16 {
        // Every other packet of 2000 a second is lost.
        let header = rtp::Header { sequence_number: n.wrapping_mul(2), ssrc: 7, ..Default::default() };
        let packet = Packet::Rtp(rtp::Packet { header, ..Default::default() });
        let message = interceptor::AttributedPacket::new(packet);
        let now = start + u32::from(n) * MS;
        nacks.observe(&TaggedPacket { now, transport: rtc_shared::TransportContext::default(), message });
        let mut out = Outbox::default();
        let before = nacks.budget;
        nacks.handle_timeout(now, &mut out);
        sent += out.len();
        asked += (before - nacks.budget).round() as usize;
    }
    assert!((2_000..=2_500 + BUDGET_BURST as usize).contains(&asked), "{asked}");
    assert!((400..=500).contains(&sent), "{sent} packets in 10 s");
}

#[test]
fn sound_is_not_asked_for() {
    let mut nacks = Nacks::new(Ssrc(1));
    nacks.bind(&StreamInfo { ssrc: 7, mime_type: "audio/opus".into(), ..Default::default() });
    assert!(nacks.video.is_none());
}
