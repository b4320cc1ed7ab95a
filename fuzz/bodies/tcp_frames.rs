//! Bytes of a TCP connection on the viewers' port, in pieces: the first byte says how they are torn.

use honeycast::egress::tcp_frames::{Deframer, LENGTH, MAX_FRAME, frame};

/// Whether `data` is a sequence of whole frames, none of them too long.
pub(crate) fn run(data: &[u8]) -> bool {
    let Some((step, stream)) = data.split_first() else { return false };
    let at_once = deframe(stream, stream.len().max(1));
    let torn = deframe(stream, usize::from(*step).max(1));
    assert_eq!(at_once, torn, "it does not matter how the stream is torn");
    let (frames, end) = at_once;
    let mut again = Vec::new();
    frames.iter().for_each(|datagram| frame(datagram, &mut again));
    assert!(stream.starts_with(&again), "what comes out is what went in");
    match end {
        Some(held) => {
            assert_eq!(again.len() + held, stream.len());
            held == 0 && !frames.is_empty()
        }
        None => false,
    }
}

/// All frames, and the bytes left over; `None` if the connection is to be cut.
fn deframe(stream: &[u8], step: usize) -> (Vec<Vec<u8>>, Option<usize>) {
    let (mut deframer, mut frames) = (Deframer::default(), Vec::new());
    for piece in stream.chunks(step) {
        deframer.push(piece);
        loop {
            match deframer.next_frame() {
                Ok(Some(datagram)) => {
                    assert!(datagram.len() <= MAX_FRAME);
                    frames.push(datagram.to_vec());
                }
                Ok(None) => break,
                Err(_) => {
                    assert!(deframer.next_frame().is_err(), "there is no way back");
                    return (frames, None);
                }
            }
        }
        assert!(deframer.held() < LENGTH + MAX_FRAME, "a frame that is not whole is bounded");
    }
    (frames, Some(deframer.held()))
}
