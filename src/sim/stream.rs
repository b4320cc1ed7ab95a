//! A running stream: pictures, sound and reports when they are due.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use rand::Rng;

use super::camera::Outbox;
use super::clip::{FRAME_INTERVAL, Quality, TONE_INTERVAL, tone};
use super::faults::{Port, Transmit};
use super::play::{AUDIO_PT, Destination, Target, VIDEO_PT};
use super::settings::{CameraSettings, RtcpSending};
use super::track::Track;
use crate::base::StreamId;
use crate::base::time::ntp64;
use crate::media::SeqNo;

/// Packets that leave together, and the pause until the next group: a large keyframe does not come as one burst.
const GROUP: usize = 10;
const GROUP_PAUSE: Duration = Duration::from_millis(1);
/// Video packets that can be sent again.
const RING: usize = 512;
/// What is later than this (the process was stopped for a while) is left out instead of sent at once.
const MAX_LATE: Duration = Duration::from_millis(500);
/// When the first reports are sent, and the time between them from then on.
const FIRST_RTCP: Duration = Duration::from_millis(500);
const RTCP_INTERVAL: Duration = Duration::from_secs(1);
const VIDEO_CLOCK: u32 = 90_000;
const AUDIO_CLOCK: u32 = 48_000;

#[derive(Debug)]
pub(super) struct Stream {
    pub(super) id: StreamId,
    pub(super) target: Target,
    pub(super) started: Instant,
    video: Track,
    /// None: the camera sends no sound.
    audio: Option<Track>,
    /// Pictures and sounds so far, left out ones included: they tell the media time.
    pictures: u32,
    sounds: u32,
    /// Number of the next picture in the clip.
    number: usize,
    quality: Quality,
    wanted: Quality,
    /// Jump to the next keyframe.
    hurry: bool,
    paced: VecDeque<(Instant, Transmit)>,
    ring: VecDeque<(SeqNo, Bytes)>,
    rtcp: RtcpSending,
    rtcp_received: bool,
    reports: u32,
    pub(super) last_keepalive: Option<Instant>,
    next_keepalive: u64,
}

impl Stream {
    pub(super) fn new(
        now: Instant,
        id: StreamId,
        target: Target,
        settings: &CameraSettings,
        rng: &mut impl Rng,
    ) -> Self {
        let video = Track::new(target.video.ssrc, VIDEO_PT, VIDEO_CLOCK, rng);
        let audio = Track::new(target.audio.ssrc, AUDIO_PT, AUDIO_CLOCK, rng);
        Self {
            id,
            target,
            started: now,
            video,
            audio: settings.audio.then_some(audio),
            pictures: 0,
            sounds: 0,
            number: 0,
            quality: Quality::Hd,
            wanted: Quality::Hd,
            hurry: false,
            paced: VecDeque::new(),
            ring: VecDeque::new(),
            rtcp: settings.rtcp,
            rtcp_received: false,
            reports: 0,
            last_keepalive: None,
            next_keepalive: 0,
        }
    }

    /// Goes on to other addresses or sources.
    pub(super) fn retarget(&mut self, target: Target) {
        self.video.ssrc = target.video.ssrc;
        if let Some(audio) = &mut self.audio {
            audio.ssrc = target.audio.ssrc;
        }
        self.target = target;
    }

    /// Which version is sent.
    pub(super) fn quality(&self) -> Quality {
        self.quality
    }

    /// Number of the last picture sent.
    pub(super) fn shown(&self) -> Option<usize> {
        let loop_len = self.quality.clip().len();
        (self.pictures > 0).then(|| (self.number + loop_len - 1) % loop_len)
    }

    /// Returns how many keepalives are missing before this one.
    pub(super) fn on_keepalive(&mut self, now: Instant, count: u64) -> u64 {
        let missing = count.saturating_sub(self.next_keepalive);
        self.next_keepalive = count.saturating_add(1);
        self.last_keepalive = Some(now);
        missing
    }

    /// RTCP has arrived, whatever it says.
    pub(super) fn on_rtcp(&mut self, now: Instant) {
        if !std::mem::replace(&mut self.rtcp_received, true) && self.rtcp == RtcpSending::AfterReceived {
            // Reports begin now, not with all that were held back.
            let late = now.saturating_duration_since(self.started + FIRST_RTCP);
            self.reports = late.as_millis().div_ceil(RTCP_INTERVAL.as_millis()) as u32;
        }
    }

    /// Follows an estimate of what the way to the server can carry, at the next keyframe.
    pub(super) fn follow(&mut self, bitrate: u64) {
        let needed = Quality::Hd.clip().bitrate();
        if bitrate < needed {
            self.wanted = Quality::Sd;
        } else if bitrate >= needed * 12 / 10 {
            // The distance keeps an estimate near the border from switching all the time.
            self.wanted = Quality::Hd;
        }
    }

    /// Sends a keyframe next.
    pub(super) fn hurry(&mut self) {
        self.hurry = true;
    }

    /// Sends packets again, as far as they are still known.
    pub(super) fn resend(&self, now: Instant, lost: &[SeqNo], out: &mut Outbox) {
        let Some((first, _)) = self.ring.front() else { return };
        for seq in lost {
            // Numbers in the ring follow each other.
            let at = usize::from(seq.0.wrapping_sub(first.0));
            if let Some((_, bytes)) = self.ring.get(at) {
                out.resent(now, Transmit { from: Port::Video, to: self.target.video.rtp, bytes: bytes.clone() });
            }
        }
    }

    /// When [`Self::advance`] has something to do.
    pub(super) fn deadline(&self) -> Instant {
        let paced = self.paced.front().map(|(at, _)| *at);
        let audio = self.audio.is_some().then(|| self.sound_due());
        let times = [Some(self.picture_due()), paced, audio, self.report_due()];
        times.into_iter().flatten().min().unwrap_or(self.started)
    }

    /// Does all that is due; `wall` is the wall clock at `now`.
    pub(super) fn advance(&mut self, now: Instant, wall: SystemTime, out: &mut Outbox) {
        while self.picture_due() <= now {
            if now <= self.picture_due() + MAX_LATE {
                self.picture();
            }
            self.pictures += 1;
        }
        while self.sound_due() <= now {
            if now <= self.sound_due() + MAX_LATE {
                self.sound(out);
            }
            self.sounds += 1;
        }
        while self.paced.front().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, packet)) = self.paced.pop_front() {
                out.video(now, packet);
            }
        }
        while self.report_due().is_some_and(|at| at <= now) {
            if self.report_due().is_some_and(|at| now <= at + MAX_LATE) {
                self.report(now, wall, out);
            }
            self.reports += 1;
        }
    }

    fn picture_due(&self) -> Instant {
        self.started + FRAME_INTERVAL * self.pictures
    }

    fn sound_due(&self) -> Instant {
        self.started + TONE_INTERVAL * self.sounds
    }

    fn report_due(&self) -> Option<Instant> {
        let sends = match self.rtcp {
            RtcpSending::None => false,
            RtcpSending::AfterReceived => self.rtcp_received,
            RtcpSending::OwnPort | RtcpSending::SameAsRtp => true,
        };
        sends.then(|| self.started + FIRST_RTCP + RTCP_INTERVAL * self.reports)
    }

    /// Puts the packets of the next picture into the queue.
    fn picture(&mut self) {
        if std::mem::take(&mut self.hurry) {
            self.number = self.quality.clip().next_keyframe(self.number);
        }
        // Both versions have their keyframes at the same numbers.
        if self.wanted != self.quality && self.wanted.clip().unit(self.number).keyframe {
            self.quality = self.wanted;
        }
        let (due, elapsed) = (self.picture_due(), FRAME_INTERVAL * self.pictures);
        let clip = self.quality.clip();
        let payloads = &clip.unit(self.number).payloads;
        for (at, payload) in payloads.iter().enumerate() {
            let (seq, bytes) = self.video.packet(elapsed, at + 1 == payloads.len(), payload);
            if self.ring.len() == RING {
                self.ring.pop_front();
            }
            self.ring.push_back((seq, bytes.clone()));
            let packet = Transmit { from: Port::Video, to: self.target.video.rtp, bytes };
            self.paced.push_back((due + GROUP_PAUSE * (at / GROUP) as u32, packet));
        }
        self.number = (self.number + 1) % clip.len();
    }

    fn sound(&mut self, out: &mut Outbox) {
        let elapsed = TONE_INTERVAL * self.sounds;
        let packets = tone();
        let Some(payload) = packets.get(self.sounds as usize % packets.len().max(1)) else { return };
        if let Some(audio) = &mut self.audio {
            // The marker begins a talk spurt (RFC 3551 §4.1); this one never pauses.
            let (_, bytes) = audio.packet(elapsed, self.sounds == 0, payload);
            out.audio(Transmit { from: Port::Audio, to: self.target.audio.rtp, bytes });
        }
    }

    fn report(&self, now: Instant, wall: SystemTime, out: &mut Outbox) {
        let (elapsed, ntp) = (now.saturating_duration_since(self.started), ntp64(wall));
        let mut send = |track: &Track, rtp_port: Port, Destination { rtcp, .. }: Destination| {
            let from = if self.rtcp == RtcpSending::SameAsRtp { rtp_port } else { Port::Rtcp };
            let bytes = track.sender_report(elapsed, ntp, &self.target.cname);
            out.rtcp(Transmit { from, to: rtcp, bytes });
        };
        send(&self.video, Port::Video, self.target.video);
        if let Some(audio) = &self.audio {
            send(audio, Port::Audio, self.target.audio);
        }
    }
}
