//! The parameter sets of a stream, remembered to put them where a keyframe lacks them.

use bytes::Bytes;

use super::bits::BitReader;
use super::packetize;

/// Sets remembered of each kind; the oldest makes room. Cameras have one or two.
const MAX_SPS: usize = 4;
const MAX_PPS: usize = 16;
/// A larger set is nothing that a camera needs, and is not remembered.
const MAX_SET_LEN: usize = 512;

/// The newest parameter set of each id.
#[derive(Debug, Default)]
pub struct ParameterSets {
    sps: Vec<(u32, Bytes)>,
    pps: Vec<(u32, Bytes)>,
}

impl ParameterSets {
    /// Remembers an SPS NAL unit. Returns whether it is news.
    pub fn remember_sps(&mut self, nal: &[u8]) -> bool {
        // Behind profile, constraints and level.
        let id = nal.get(4..).and_then(|rest| BitReader::new(rest).ue());
        remember(&mut self.sps, MAX_SPS, id.filter(|id| *id < 32), nal)
    }

    /// Remembers a PPS NAL unit. Returns whether it is news.
    pub fn remember_pps(&mut self, nal: &[u8]) -> bool {
        let id = nal.get(1..).and_then(|rest| BitReader::new(rest).ue());
        remember(&mut self.pps, MAX_PPS, id.filter(|id| *id < 256), nal)
    }

    /// Whether there is an SPS.
    pub fn has_sps(&self) -> bool {
        !self.sps.is_empty()
    }

    /// Whether there is a PPS.
    pub fn has_pps(&self) -> bool {
        !self.pps.is_empty()
    }

    /// Payloads with what is asked for, in the order in which decoders need it.
    pub fn payloads(&self, sps: bool, pps: bool) -> Vec<Bytes> {
        let sets = self.sps.iter().filter(|_| sps).chain(self.pps.iter().filter(|_| pps));
        let units: Vec<&[u8]> = sets.map(|(_, nal)| nal.as_ref()).collect();
        let mut out = Vec::new();
        packetize::pack(&units, &mut out);
        out
    }
}

fn remember(sets: &mut Vec<(u32, Bytes)>, most: usize, id: Option<u32>, nal: &[u8]) -> bool {
    let Some(id) = id.filter(|_| nal.len() <= MAX_SET_LEN) else { return false };
    if let Some((_, known)) = sets.iter_mut().find(|(other, _)| *other == id) {
        let news = *known != nal;
        if news {
            *known = Bytes::copy_from_slice(nal);
        }
        return news;
    }
    if sets.len() >= most {
        sets.remove(0);
    }
    sets.push((id, Bytes::copy_from_slice(nal)));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xe0, 0x1f, 0x80];
    const PPS_0: &[u8] = &[0x68, 0x80];
    const PPS_1: &[u8] = &[0x68, 0x40];

    #[test]
    fn sets_are_kept_by_id_and_a_repeated_one_is_no_news() {
        let mut sets = ParameterSets::default();
        assert!(sets.remember_sps(SPS) && sets.remember_pps(PPS_0) && sets.remember_pps(PPS_1));
        assert!(!sets.remember_sps(SPS) && !sets.remember_pps(PPS_0));
        let payloads = sets.payloads(true, true);
        assert_eq!(payloads, [[&[0x78, 0, 5][..], SPS, &[0, 2], PPS_0, &[0, 2], PPS_1].concat()]);
        let changed = [PPS_0, &[1]].concat();
        assert!(sets.remember_pps(&changed));
        assert_eq!(sets.payloads(false, true), [[&[0x78, 0, 3][..], &changed, &[0, 2], PPS_1].concat()]);
        assert_eq!(sets.payloads(true, false), [SPS]);
    }

    #[test]
    fn a_flood_of_ids_and_sizes_is_bounded() {
        let mut sets = ParameterSets::default();
        for id in 0..=255u32 {
            // ue(id) in as many bits as it takes, behind the header.
            let code = u64::from(id + 1);
            let zeros = 63 - code.leading_zeros();
            let bits = (code << (63 - 2 * zeros)).to_be_bytes();
            assert!(sets.remember_pps(&[&[0x68][..], &bits].concat()), "{id}");
        }
        assert_eq!(sets.pps.len(), MAX_PPS);
        assert!(!sets.remember_sps(&[0x67; MAX_SET_LEN + 1]));
        assert!(!sets.remember_sps(&[0x67, 1, 2, 3]) && !sets.remember_pps(&[0x68]));
        assert!(!sets.has_sps());
    }
}
