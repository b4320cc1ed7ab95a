//! The rate of a stream over the last two seconds.

use std::time::{Duration, Instant};

const SLOTS: usize = 8;
const SLOT: Duration = Duration::from_millis(250);

/// Counts bytes in slots of a quarter of a second.
#[derive(Debug)]
pub(super) struct RateMeter {
    slots: [u64; SLOTS],
    current: usize,
    began: Option<Instant>,
    /// Slots that are full, at most all others.
    full: usize,
}

impl RateMeter {
    pub(super) const fn new() -> Self {
        Self { slots: [0; SLOTS], current: 0, began: None, full: 0 }
    }

    pub(super) fn add(&mut self, bytes: usize, now: Instant) {
        let began = *self.began.get_or_insert(now);
        let passed = (now.saturating_duration_since(began).as_millis() / SLOT.as_millis()) as u32;
        for _ in 0..passed.min(SLOTS as u32) {
            self.current = (self.current + 1) % SLOTS;
            self.slots[self.current] = 0;
            self.full = (self.full + 1).min(SLOTS - 1);
        }
        self.began = Some(began + SLOT * passed);
        self.slots[self.current] += bytes as u64;
    }

    /// Bit/s; 0 before anything is known.
    pub(super) fn bits_per_second(&self) -> u64 {
        let sum: u64 = self.slots.iter().sum::<u64>() - self.slots[self.current];
        sum * 8 * 1_000 / (SLOT.as_millis() as u64 * self.full.max(1) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_full_slots() {
        let (mut meter, now) = (RateMeter::new(), Instant::now());
        let ms = |ms| now + Duration::from_millis(ms);
        assert_eq!(meter.bits_per_second(), 0);
        for n in 0..100 {
            meter.add(10_000, ms(n * 40));
        }
        let rate = meter.bits_per_second();
        assert!((1_900_000..2_100_000).contains(&rate), "{rate}");
        meter.add(0, ms(60_000));
        assert_eq!(meter.bits_per_second(), 0, "nothing came for long");
    }
}
