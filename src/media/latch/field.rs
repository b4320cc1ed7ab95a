//! Who has an interest in a source that belongs to nobody, and whose it is.

use std::time::Instant;

use super::expectation::{Expectation, Standing};
use super::strangers::Past;
use super::{Arrival, Refusal, Slot, Unlatched};
use crate::base::CameraId;

/// Whose a refused source may be.
pub(super) struct Interest<K> {
    pub(super) streams: Vec<K>,
    /// Only if nobody else comes into question.
    pub(super) distant: Vec<K>,
    /// Cameras of streams that have ended.
    pub(super) ghosts: Vec<CameraId>,
}

impl<K> Default for Interest<K> {
    fn default() -> Self {
        Self { streams: Vec::new(), distant: Vec::new(), ghosts: Vec::new() }
    }
}

/// Who has an interest in a source.
pub(super) struct Field<'a, K> {
    near: Vec<(K, &'a Expectation)>,
    far: Vec<(K, &'a Expectation)>,
    late: Vec<(K, &'a Expectation)>,
    distant: Vec<(K, &'a Expectation)>,
    near_rivals: Vec<(&'a Expectation, bool)>,
    far_rivals: Vec<(&'a Expectation, bool)>,
    refused: Option<Refusal<K>>,
    nearest: Option<K>,
    /// Whose it was: if that is not clear, nothing but a clue can tell whose it is.
    pub(super) past: Past,
    /// Cameras of other addresses that were not heard since the source appeared: they may have moved.
    pub(super) unheard: Vec<&'a Expectation>,
}

impl<K> Default for Field<'_, K> {
    fn default() -> Self {
        let (near_rivals, far_rivals) = (Vec::new(), Vec::new());
        let (refused, nearest, past) = (None, None, Past::Unknown);
        let (near, far, late, distant) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { near, far, late, distant, near_rivals, far_rivals, refused, nearest, past, unheard: Vec::new() }
    }
}

impl<'a, K: Copy + Eq> Field<'a, K> {
    pub(super) fn add(&mut self, stream: Option<K>, expectation: &'a Expectation, standing: Standing) {
        match (standing, stream) {
            (Standing::Near, Some(stream)) => self.near.push((stream, expectation)),
            (Standing::Far, Some(stream)) => self.far.push((stream, expectation)),
            (Standing::Late, Some(stream)) => self.late.push((stream, expectation)),
            (Standing::Distant, Some(stream)) => self.distant.push((stream, expectation)),
            (Standing::Rival { near: true, soon }, _) => {
                self.near_rivals.push((expectation, soon));
                self.nearest = stream;
            }
            (Standing::Rival { near: false, soon }, _) => self.far_rivals.push((expectation, soon)),
            (Standing::No(Some(why)), stream) => {
                let nearest = stream.filter(|_| why != Unlatched::OtherCamera);
                self.refused = Some(Refusal { why, nearest });
            }
            _ => {}
        }
    }

    pub(super) fn decide(mut self, arrival: &Arrival<'_>, named: Option<K>, now: Instant) -> Result<K, Refusal<K>> {
        let fits = |expectation: &Expectation| expectation.fits(arrival, now);
        let moved: Vec<_> =
            self.unheard.iter().map(|expectation| (*expectation, expectation.has_live_video(now))).collect();
        let mut rivals = std::mem::take(&mut self.near_rivals);
        // Wherever they are known to be: their media clock goes on here, or is not known.
        let may_be_moved = |other: &Expectation| {
            fits(other)
                || match arrival.slot {
                    Slot::Video => false,
                    Slot::Audio => other.was_heard() && !other.has_clock(Slot::Audio),
                    Slot::Rtcp => other.was_heard(),
                }
        };
        rivals.extend(moved.iter().chain(&self.far_rivals).filter(|(other, _)| may_be_moved(other)).copied());
        let claims = if self.near.is_empty() {
            rivals.append(&mut self.far_rivals);
            let as_rivals =
                |others: &[(K, &'a Expectation)]| others.iter().map(|(_, e)| (*e, false)).collect::<Vec<_>>();
            if !self.far.is_empty() {
                rivals.extend(as_rivals(&self.late));
                self.far
            } else if !self.late.is_empty() {
                // So late nobody waits for it: everybody else must be out of the question.
                rivals.extend(as_rivals(&self.distant));
                rivals.extend(moved);
                self.late
            } else if rivals.is_empty() {
                self.distant
            } else {
                Vec::new()
            }
        } else {
            // A stream of which nothing is known may be behind that address as well.
            rivals.extend(self.far.iter().map(|(_, expectation)| (*expectation, false)));
            // So may one whose sound could not be told from another's before, and may have moved.
            rivals.extend(self.late.iter().filter(|(_, e)| e.has_disputed_sound()).map(|(_, e)| (*e, false)));
            // Reports come from ports that say nothing: a sender report whose clock fits has to tell.
            if arrival.slot == Slot::Rtcp {
                rivals.append(&mut self.far_rivals);
            }
            self.near
        };
        let refusal = |why, nearest| Err(Refusal { why, nearest });
        if named.is_some() {
            return match claims.iter().find(|(stream, _)| Some(*stream) == named) {
                Some((stream, _)) => Ok(*stream),
                None => refusal(Unlatched::OtherCamera, named),
            };
        }
        let Some((first, claimant)) = claims.first().copied() else {
            return Err(self.refused.unwrap_or(Refusal { why: Unlatched::Unexpected, nearest: self.nearest }));
        };
        let mut fitting = claims.iter().filter(|(_, expectation)| fits(expectation)).map(|(stream, _)| *stream);
        let rival_fits = rivals.iter().any(|(expectation, _)| fits(expectation));
        match (fitting.next(), fitting.next()) {
            (Some(stream), None) if !rival_fits => return Ok(stream),
            _ if rival_fits => return refusal(Unlatched::Ambiguous, None),
            _ => {}
        }
        let soon = rivals.iter().all(|(_, soon)| *soon);
        let doubtful = match self.past {
            Past::Unknown | Past::Of(_) => false,
            Past::Suspect(camera) => camera != claimant.camera,
            Past::Doubtful => true,
        };
        match claims.len() {
            _ if doubtful => refusal(Unlatched::Ambiguous, None),
            1 if rivals.is_empty() => Ok(first),
            1 if soon => refusal(Unlatched::Unconfirmed, Some(first)),
            _ => refusal(Unlatched::Ambiguous, None),
        }
    }
}
