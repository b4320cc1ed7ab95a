//! Datagrams in a TCP connection: each behind its length in two bytes (RFC 4571 §2).

/// Longest datagram taken, in bytes. Checks and DTLS records are below 1,500; a browser's RTCP as well.
pub const MAX_FRAME: usize = 4_096;
/// Bytes of the length before each datagram.
pub const LENGTH: usize = 2;

/// A length above [`MAX_FRAME`]: what follows is no ICE connection, and where the next datagram begins is unknown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of {0} bytes, at most {MAX_FRAME} are taken")]
pub struct FrameTooLong(pub usize);

/// Takes bytes as they come and gives whole datagrams. Holds one incomplete datagram and what came with it.
#[derive(Debug, Default)]
pub struct Deframer {
    bytes: Vec<u8>,
    /// What of `bytes` was given out.
    taken: usize,
}

impl Deframer {
    /// Takes what was read. The datagrams in it are to be taken before the next call, or the memory grows.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.drain(..self.taken);
        self.taken = 0;
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole datagram; `None` until more bytes have come. One without bytes is legal and means nothing.
    ///
    /// # Errors
    ///
    /// [`FrameTooLong`], from then on with every call.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameTooLong> {
        let rest = &self.bytes[self.taken..];
        let Some((length, rest)) = rest.split_at_checked(LENGTH) else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length > MAX_FRAME {
            return Err(FrameTooLong(length));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        self.taken += LENGTH + length;
        Ok(Some(frame))
    }

    /// Bytes held for datagrams that are not whole yet.
    pub fn held(&self) -> usize {
        self.bytes.len() - self.taken
    }
}

/// Appends a datagram with its length; one that is too long for 16 bits is left out.
pub fn frame(datagram: &[u8], out: &mut Vec<u8>) {
    if let Ok(length) = u16::try_from(datagram.len()) {
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(datagram);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(deframer: &mut Deframer) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| deframer.next_frame().unwrap().map(<[u8]>::to_vec)).collect()
    }

    #[test]
    fn datagrams_come_out_whole_wherever_the_stream_is_torn() {
        let datagrams = [vec![1; 100], vec![], vec![2], vec![3; MAX_FRAME], vec![4; 20]];
        let mut stream = Vec::new();
        datagrams.iter().for_each(|datagram| frame(datagram, &mut stream));
        for at in 0..=stream.len() {
            let (mut deframer, mut got) = (Deframer::default(), Vec::new());
            for part in [&stream[..at], &stream[at..]] {
                deframer.push(part);
                got.extend(all(&mut deframer));
            }
            assert_eq!((got.as_slice(), deframer.held()), (&datagrams[..], 0), "torn at {at}");
        }
        let (mut deframer, mut got) = (Deframer::default(), Vec::new());
        for byte in &stream {
            deframer.push(std::slice::from_ref(byte));
            got.extend(all(&mut deframer));
            assert!(deframer.held() <= LENGTH + MAX_FRAME);
        }
        assert_eq!(got, datagrams);
    }

    #[test]
    fn what_is_no_ice_connection_is_known_by_its_first_two_bytes() {
        for text in [&b"GET / HTTP/1.1\r\n"[..], b"\x16\x03\x01\x02\x00", b"SSH-2.0-x\r\n", b"\xff\xff"] {
            let mut deframer = Deframer::default();
            deframer.push(text);
            assert!(deframer.next_frame().is_err() && deframer.next_frame().is_err(), "{text:?}");
        }
    }
}
