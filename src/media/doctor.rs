//! The codec doctor: what a camera's video is made of, and what browsers will not like about it.

use std::collections::VecDeque;
use std::time::Duration;

use super::frame::Codec;
use super::h264::{ProfileLevelId, SliceStart};
use super::id::RtpTime;
use super::packetize::MAX_PAYLOAD;
use super::repair::RepairCounters;
use super::sps::Sps;

/// Pictures over which the frame rate is measured.
const RATE_WINDOW: usize = 64;
/// Fewer say nothing about steadiness.
const STEADY_AFTER: usize = 30;
/// Standard deviation of the time between pictures, as a share of their mean, from which on the rate is
/// unsteady. A camera that leaves out one picture of ten has 0.3.
const UNSTEADY: f64 = 0.4;
/// A group of pictures longer than this keeps viewers waiting after a loss.
const LONG_GOP: Duration = Duration::from_secs(10);
/// A pause is no frame rate.
const PAUSE: i64 = 2 * CLOCK_RATE;
const CLOCK_RATE: i64 = 90_000;

/// Watches the NAL units of one video track.
#[derive(Debug, Default)]
pub struct CodecDoctor {
    profile: Option<ProfileLevelId>,
    sps: Option<Sps>,
    pictures: u64,
    undecodable: u64,
    b_slices: bool,
    times: VecDeque<RtpTime>,
    keyframe: Option<(u64, RtpTime)>,
    gop: Option<Gop>,
}

/// Length of a group of pictures, from one keyframe to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gop {
    /// Pictures, the keyframe included.
    pub frames: u64,
    /// Time on the camera's clock.
    pub duration: Duration,
}

/// Findings of the doctor.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CodecReport {
    /// profile-level-id of the real SPS; `None` before the first one.
    pub profile_level_id: Option<ProfileLevelId>,
    /// The SPS, if it could be read.
    pub sps: Option<Sps>,
    /// Pictures seen.
    pub pictures: u64,
    /// Keyframes that nobody can decode, because no parameter sets are known.
    pub undecodable_keyframes: u64,
    /// Measured pictures per second over the last 64.
    pub frame_rate: Option<f64>,
    /// Whether pictures come at even distances.
    pub steady: bool,
    /// The last group of pictures, or the one that runs if it is longer already.
    pub gop: Option<Gop>,
    /// B slices were seen since the camera started.
    pub b_frames: bool,
    /// What was repaired.
    pub repaired: RepairCounters,
}

impl CodecDoctor {
    /// A new SPS.
    pub fn on_sps(&mut self, nal: &[u8]) {
        self.profile = ProfileLevelId::of_sps(nal).or(self.profile);
        self.sps = Sps::parse(nal);
    }

    /// Whether an SPS was read.
    pub fn has_sps(&self) -> bool {
        self.sps.is_some()
    }

    /// A slice began, with what could be read of its header.
    pub fn on_slice(&mut self, slice: Option<SliceStart>) {
        self.b_slices |= slice.is_some_and(|slice| slice.bidirectional);
    }

    /// A picture began.
    pub fn on_picture(&mut self, time: RtpTime, idr: bool) {
        if idr {
            self.gop = self.running_gop(time).or(self.gop);
            self.keyframe = Some((self.pictures, time));
        }
        self.pictures += 1;
        if self.times.back().is_some_and(|last| (time.0 as i64 - last.0 as i64).abs() > PAUSE) {
            self.times.clear();
        }
        if self.times.len() >= RATE_WINDOW {
            self.times.pop_front();
        }
        self.times.push_back(time);
    }

    /// The keyframe that began cannot be decoded.
    pub fn on_undecodable(&mut self) {
        self.undecodable += 1;
    }

    /// The camera restarted, and may send something else from now on.
    pub fn on_restart(&mut self) {
        self.times.clear();
        (self.keyframe, self.gop, self.b_slices) = (None, None, false);
    }

    /// The profile of the last SPS.
    pub fn profile(&self) -> Option<ProfileLevelId> {
        self.profile
    }

    /// Findings so far; `repaired` stands in them.
    pub fn report(&self, repaired: RepairCounters) -> CodecReport {
        let (frame_rate, steady) = self.rate();
        let running = self.times.back().and_then(|now| self.running_gop(*now));
        let longer = |gop: &Gop| self.gop.is_none_or(|last| gop.duration > last.duration);
        CodecReport {
            profile_level_id: self.profile,
            sps: self.sps,
            pictures: self.pictures,
            undecodable_keyframes: self.undecodable,
            frame_rate,
            steady,
            // Without a keyframe at its end the first one is not measured, only known to be long.
            gop: running.filter(|gop| longer(gop) && (self.gop.is_some() || gop.duration > LONG_GOP)).or(self.gop),
            b_frames: self.b_slices,
            repaired,
        }
    }

    /// From the last keyframe to a picture at `time`.
    fn running_gop(&self, time: RtpTime) -> Option<Gop> {
        let (first, begun) = self.keyframe?;
        let ticks = time.0.saturating_sub(begun.0);
        let duration = Duration::from_secs_f64(ticks as f64 / CLOCK_RATE as f64);
        Some(Gop { frames: self.pictures - first, duration })
    }

    fn rate(&self) -> (Option<f64>, bool) {
        // In decoding order B-frames step back; their times are those of showing.
        let mut times: Vec<u64> = self.times.iter().map(|time| time.0).collect();
        times.sort_unstable();
        let steps: Vec<f64> = times.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let mean = steps.iter().sum::<f64>() / steps.len() as f64;
        if steps.is_empty() || mean <= 0.0 {
            return (None, true);
        }
        let variance = steps.iter().map(|step| (step - mean).powi(2)).sum::<f64>() / steps.len() as f64;
        let steady = steps.len() < STEADY_AFTER || variance.sqrt() / mean <= UNSTEADY;
        (Some(CLOCK_RATE as f64 / mean), steady)
    }
}

/// What to say about the codec of a camera's sound.
pub fn sound_advice(codec: Codec) -> Option<Advice> {
    let text = "The sound is PCMU, which is of telephone quality at 64 kbit/s. Every browser plays it; Opus sounds better and needs less.";
    (codec == Codec::Pcmu).then(|| Advice { code: "pcmu_audio", text: text.into() })
}

/// Something about a camera's video or sound that an operator can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Advice {
    /// For programs; does not change.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

impl CodecReport {
    /// The profile's name (ITU-T H.264 Annex A).
    pub fn profile_name(&self) -> Option<&'static str> {
        let [profile, constraints, _] = self.profile_level_id?.0;
        let constraint = |set: u8| constraints & (0x80 >> set) != 0;
        Some(match profile {
            66 if constraint(1) => "Constrained Baseline",
            66 => "Baseline",
            77 => "Main",
            88 => "Extended",
            100 if constraint(4) && constraint(5) => "Constrained High",
            100 => "High",
            110 => "High 10",
            122 => "High 4:2:2",
            244 => "High 4:4:4 Predictive",
            _ => return None,
        })
    }

    /// The level as it is written, like `3.1` or `1b`.
    pub fn level_name(&self) -> Option<String> {
        let [profile, constraints, level] = self.profile_level_id?.0;
        let is_1b = level == 9 || level == 11 && constraints & 0x10 != 0 && matches!(profile, 66 | 77 | 88);
        Some(match level {
            _ if is_1b => "1b".into(),
            level if level % 10 == 0 => format!("{}", level / 10),
            level => format!("{}.{}", level / 10, level % 10),
        })
    }

    /// What to change at the camera, the gravest first; empty for a camera that suits every browser.
    pub fn advice(&self) -> Vec<Advice> {
        let mut out = Vec::new();
        let mut add = |code, text: String| out.push(Advice { code, text });
        if self.undecodable_keyframes > 0 && self.profile_level_id.is_none() {
            add("no_sps", "The camera sends pictures but no SPS and PPS; nobody can decode them. Let the encoder repeat its parameter sets before each keyframe.".into());
        }
        if let Some(profile) = self.profile_level_id {
            match (profile.0[0], self.profile_name()) {
                (66 | 77, _) => {}
                (100, _) => add(
                    "profile_high",
                    format!(
                        "The profile is High ({profile}). Not every browser decodes it in a call; Constrained Baseline plays everywhere."
                    ),
                ),
                (_, name) => add(
                    "profile_unsupported",
                    format!(
                        "The profile is {} ({profile}), which browsers do not offer. Set the encoder to Constrained Baseline.",
                        name.unwrap_or("unknown")
                    ),
                ),
            }
        }
        if self.b_frames {
            add("b_frames", "The camera sends B-frames, which browsers show late or out of order. Switch them off, or set the encoder to Baseline.".into());
        } else if self.sps.is_some_and(|sps| sps.max_reorder != Some(0)) {
            add("reorder_delay", "The SPS allows B-frames although there are none; some decoders hold pictures back for them. Set the encoder to Baseline, or let its SPS say that no pictures are reordered.".into());
        }
        if self.sps.is_some_and(|sps| !sps.progressive) {
            add(
                "interlaced",
                "The stream may be interlaced, which browsers do not show well. Switch the camera to progressive."
                    .into(),
            );
        }
        if let Some(gop) = self.gop.filter(|gop| gop.duration > LONG_GOP) {
            add(
                "gop_long",
                format!(
                    "There are {:.0} s between keyframes. After a loss, viewers may wait that long if the camera does not obey requests; 2 to 4 s are good.",
                    gop.duration.as_secs_f64()
                ),
            );
        }
        if self.repaired.oversize > 0 {
            add(
                "oversize_packets",
                format!(
                    "{} packets were larger than {MAX_PAYLOAD} bytes and were divided for viewers. Set the camera's packet size to {MAX_PAYLOAD} bytes or less.",
                    self.repaired.oversize
                ),
            );
        }
        if self.repaired.early_markers + self.repaired.missing_markers > 0 {
            add(
                "marker_bit",
                "The camera does not set the marker bit on the last packet of each picture and on no other; browsers find the end of a picture by it. Update its firmware, or let it send one slice a picture.".into(),
            );
        }
        if self.repaired.all_faults() > 0 {
            add(
                "malformed_packets",
                format!(
                    "{} packets or parts of them break RFC 6184 and were not forwarded. Something damages or truncates packets, or the camera's packetiser is faulty.",
                    self.repaired.all_faults()
                ),
            );
        }
        if !self.steady {
            add("frame_rate_unstable", "Pictures come at uneven distances. The camera may be overloaded or short of light, or pictures are lost on the way.".into());
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASELINE: &[u8] = &[
        0x67, 0x42, 0xc0, 0x1f, 0xd9, 0x00, 0x50, 0x05, 0xbb, 0x01, 0x10, 0x00, 0x00, 0x03, 0x00, 0x10, 0x00, 0x00,
        0x03, 0x03, 0x20, 0xf1, 0x83, 0x24, 0x80,
    ];

    fn codes(report: &CodecReport) -> Vec<&'static str> {
        report.advice().iter().map(|advice| advice.code).collect()
    }

    /// Pictures `step` apart, an IDR every `gop`.
    fn watch(doctor: &mut CodecDoctor, pictures: u64, step: u64, gop: u64) {
        let begin = doctor.pictures;
        for n in begin..begin + pictures {
            doctor.on_picture(RtpTime((1 << 32) + n * step), n % gop == 0);
        }
    }

    #[test]
    fn a_steady_baseline_stream_is_measured_and_needs_no_advice() {
        let mut doctor = CodecDoctor::default();
        doctor.on_sps(BASELINE);
        watch(&mut doctor, 201, 3_600, 50);
        let report = doctor.report(RepairCounters::default());
        assert_eq!(
            (report.profile_name(), report.level_name().as_deref()),
            (Some("Constrained Baseline"), Some("3.1"))
        );
        assert_eq!(report.frame_rate, Some(25.0));
        let gop = report.gop.unwrap();
        assert_eq!((gop.frames, gop.duration.as_millis()), (50, 2_000));
        assert_eq!(codes(&report), [""; 0]);
    }

    #[test]
    fn a_group_that_does_not_end_is_long_before_its_end() {
        let mut doctor = CodecDoctor::default();
        watch(&mut doctor, 250, 3_600, 10_000);
        assert_eq!(doctor.report(RepairCounters::default()).gop, None);
        watch(&mut doctor, 10, 3_600, 10_000);
        assert_eq!(codes(&doctor.report(RepairCounters::default())), ["gop_long"]);
    }

    #[test]
    fn a_rate_that_jumps_is_unsteady_and_one_lost_picture_is_not() {
        let mut doctor = CodecDoctor::default();
        watch(&mut doctor, 40, 3_600, 20);
        let time = |n: u64| RtpTime((1 << 32) + n * 3_600);
        doctor.on_picture(time(41), false);
        assert!(doctor.report(RepairCounters::default()).steady);
        for n in 0..20 {
            doctor.on_picture(time(42 + n * 4 + n % 2), false);
        }
        assert_eq!(codes(&doctor.report(RepairCounters::default())), ["frame_rate_unstable"]);
    }

    #[test]
    fn profiles_and_reordering_are_named_in_words() {
        for (sps, expected) in [
            // From x264: High with B-frames allowed, Main without, High 4:2:2.
            ("67640028acd940780227e5c044000003000400000300f03c60c658", &["profile_high", "reorder_delay"][..]),
            ("674d4016d900a03db0110000030001000003001e0f162e48", &[]),
            ("677a001eb6cd940b4126c044000003000400000300c83c58b658", &["profile_unsupported", "reorder_delay"]),
            ("67640028acd94078044fde0220000003002000000643e2c5b2c0", &["profile_high", "reorder_delay", "interlaced"]),
        ] {
            let nal: Vec<u8> =
                (0..sps.len()).step_by(2).map(|at| u8::from_str_radix(&sps[at..at + 2], 16).unwrap()).collect();
            let mut doctor = CodecDoctor::default();
            doctor.on_sps(&nal);
            assert_eq!(codes(&doctor.report(RepairCounters::default())), expected, "{sps}");
        }
    }

    #[test]
    fn b_slices_are_seen_until_the_camera_restarts() {
        let mut doctor = CodecDoctor::default();
        doctor.on_slice(SliceStart::parse(&[0b1001_1100]));
        assert_eq!(codes(&doctor.report(RepairCounters::default())), ["b_frames"]);
        doctor.on_restart();
        assert_eq!(codes(&doctor.report(RepairCounters::default())), [""; 0]);
    }
}
