//! Wall-clock formats. Durations and deadlines use [`std::time::Instant`], handed in as arguments.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Seconds between the NTP era (1900) and the unix epoch (RFC 5905 §6).
pub const NTP_UNIX_OFFSET: u64 = 2_208_988_800;

/// ISO-8601 in UTC with microseconds and `Z`, as the old service wrote it (contract §2).
pub fn iso8601(time: SystemTime) -> String {
    Timestamp::try_from(time).map(|t| format!("{t:.6}")).unwrap_or_default()
}

/// The 64-bit NTP timestamp of `time`: seconds since 1900 in the upper half, 2⁻³² s below (RFC 3550 §4).
pub fn ntp64(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = since.as_secs().wrapping_add(NTP_UNIX_OFFSET);
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (seconds << 32) | fraction
}

/// Seconds since 1900, as the `o=` line of the camera's SDP carries them (contract §3).
pub fn ntp_seconds(time: SystemTime) -> u64 {
    ntp64(time) >> 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iso8601_has_microseconds_and_z() {
        let time = UNIX_EPOCH + Duration::new(1_795_569_821, 5_000_000);
        assert_eq!(iso8601(time), "2026-11-25T01:23:41.005000Z");
    }

    #[test]
    fn ntp64_counts_from_1900() {
        let time = UNIX_EPOCH + Duration::from_millis(500);
        assert_eq!(ntp64(time), (NTP_UNIX_OFFSET << 32) | 0x8000_0000);
    }
}
