//! The boundaries of WebSocket frames (RFC 6455 section 5), so that a Close can be put between two of them.
//!
//! No payload is looked at, unmasked or kept: a tunnel's bytes pass as they are.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// The longest frame header: two bytes, eight of length, four of mask.
const MAX_HEADER: usize = 14;
/// The longest payload of a control frame.
const MAX_CONTROL: usize = 125;

/// Opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// Opcode of a Close frame.
pub const CLOSE: u8 = 0x8;
/// Opcode of a Ping frame.
pub const PING: u8 = 0x9;
/// Opcode of a Pong frame.
pub const PONG: u8 = 0xa;

/// Close code of an endpoint that goes away: the gateway stops (RFC 6455 section 7.4.1).
pub const GOING_AWAY: u16 = 1001;
/// Close code of a service that restarts: the generation ends (IANA registry of close codes).
pub const SERVICE_RESTART: u16 = 1012;

/// Follows one direction of a WebSocket connection from frame to frame.
///
/// Costs some twenty instructions a frame, whatever its length. After bytes that are no WebSocket frames its answers mean
/// nothing, but it never panics.
#[derive(Clone, Copy, Debug, Default)]
pub struct FrameBoundary {
    header: [u8; MAX_HEADER],
    /// Bytes of the header so far; zero between two frames and in a payload.
    have: u8,
    /// Bytes of the payload to come.
    payload: u64,
    is_closed: bool,
}

impl FrameBoundary {
    /// At the beginning of a connection, behind the handshake.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the direction's next bytes, in order.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.walk(bytes);
    }

    /// Whether the direction stands between two frames: a frame put here arrives whole.
    pub fn at_boundary(&self) -> bool {
        self.have == 0 && self.payload == 0
    }

    /// Whether a Close frame has begun: nothing may be sent behind it.
    pub fn is_closed(&self) -> bool {
        self.is_closed
    }

    /// How many of `bytes`, which come next, may be passed on so that the direction then stands at a boundary: the longest
    /// such beginning, zero if only the present place is one. `None` if none is, since a frame is unfinished that does not
    /// end in `bytes`. Does not take the bytes: [`FrameBoundary::feed`] what was passed on.
    pub fn split(&self, bytes: &[u8]) -> Option<usize> {
        let mut ahead = *self;
        let last = ahead.walk(bytes);
        last.or_else(|| self.at_boundary().then_some(0))
    }

    /// Takes bytes and returns the last boundary behind one of them.
    fn walk(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut last = None;
        let mut at = 0;
        while at < bytes.len() {
            if self.payload > 0 {
                let taken = self.payload.min((bytes.len() - at) as u64);
                self.payload -= taken;
                at += taken as usize;
            } else {
                self.header[usize::from(self.have)] = bytes[at];
                self.have += 1;
                at += 1;
                self.end_header();
            }
            if self.at_boundary() {
                last = Some(at);
            }
        }
        last
    }

    /// Turns to the payload if the header is complete.
    fn end_header(&mut self) {
        let have = usize::from(self.have);
        if have < 2 {
            return;
        }
        let (is_masked, short) = (self.header[1] & 0x80 != 0, self.header[1] & 0x7f);
        let extended = match short {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        if have < 2 + extended + if is_masked { 4 } else { 0 } {
            return;
        }
        let length = self.header[2..2 + extended].iter().fold(0, |length, &byte| length << 8 | u64::from(byte));
        self.payload = if extended == 0 { u64::from(short) } else { length };
        self.is_closed |= self.header[0] & 0x0f == CLOSE;
        self.have = 0;
    }
}

/// One unfragmented frame. Clients must give a mask, servers must not (RFC 6455 section 5.1).
pub fn frame(opcode: u8, payload: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + MAX_HEADER);
    let mask_bit = if mask.is_some() { 0x80 } else { 0 };
    out.push(0x80 | (opcode & 0x0f));
    match payload.len() {
        length @ 0..=125 => out.push(mask_bit | length as u8),
        length @ 126..=0xffff => {
            out.push(mask_bit | 126);
            out.extend((length as u16).to_be_bytes());
        }
        length => {
            out.push(mask_bit | 127);
            out.extend((length as u64).to_be_bytes());
        }
    }
    match mask {
        None => out.extend(payload),
        Some(mask) => {
            out.extend(mask);
            out.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, key)| byte ^ key));
        }
    }
    out
}

/// A Close frame (RFC 6455 section 5.5.1); a reason beyond 123 bytes is cut off at a character.
pub fn close_frame(code: u16, reason: &str, mask: Option<[u8; 4]>) -> Vec<u8> {
    let reason = &reason[..reason.floor_char_boundary(MAX_CONTROL - 2)];
    let payload = [&code.to_be_bytes()[..], reason.as_bytes()].concat();
    frame(CLOSE, &payload, mask)
}

/// The value of Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (RFC 6455 section 4.2.2).
pub fn accept_key(key: &str) -> String {
    let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
    STANDARD.encode(digest)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_rfc() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!(frame(TEXT, b"Hello", None), b"\x81\x05Hello");
        let masked = frame(TEXT, b"Hello", Some([0x37, 0xfa, 0x21, 0x3d]));
        assert_eq!(masked, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
        assert_eq!(frame(TEXT, &[0; 256], None)[..4], [0x81, 126, 1, 0]);
        assert_eq!(frame(TEXT, &[0; 65536], None)[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
        assert_eq!(close_frame(SERVICE_RESTART, "restart", None), b"\x88\x09\x03\xf4restart");
    }

    #[test]
    fn a_long_reason_is_cut_at_a_character() {
        let close = close_frame(GOING_AWAY, &"ä".repeat(100), None);
        assert_eq!(close.len(), 2 + 2 + 122);
        assert!(std::str::from_utf8(&close[4..]).is_ok());
    }

    #[test]
    fn a_close_can_be_put_between_frames() {
        let mut boundary = FrameBoundary::new();
        assert_eq!(boundary.split(b""), Some(0));
        assert_eq!(boundary.split(b"\x81"), Some(0));
        assert_eq!(boundary.split(b"\x81\x02ab\x81"), Some(4));
        boundary.feed(b"\x81\x02a");
        assert!(!boundary.at_boundary());
        assert_eq!(boundary.split(b""), None);
        assert_eq!(boundary.split(b"b"), Some(1));
        boundary.feed(b"b");
        assert!(boundary.at_boundary() && !boundary.is_closed());
        boundary.feed(&close_frame(1000, "", None));
        assert!(boundary.at_boundary() && boundary.is_closed());
    }

    #[test]
    fn lengths_that_no_frame_has_are_no_boundary() {
        let mut boundary = FrameBoundary::new();
        boundary.feed(b"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xffmask");
        boundary.feed(&[0; 1000]);
        assert!(!boundary.at_boundary());
    }

    fn frames() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let length = prop_oneof![0usize..4, 120usize..130, Just(65535), Just(65536), 0usize..70000];
        let one = (prop::sample::select(vec![0, TEXT, 2, PING, PONG]), length, any::<Option<[u8; 4]>>());
        prop::collection::vec(one.prop_map(|(opcode, length, mask)| frame(opcode, &vec![7; length], mask)), 1..6)
    }

    proptest! {
        /// However a stream is cut, exactly the ends of frames are boundaries, and `split` finds the last of a slice.
        #[test]
        fn boundaries_are_the_ends_of_frames(frames in frames(), cuts in prop::collection::vec(1usize..5000, 1..40)) {
            let mut ends = vec![0];
            for frame in &frames {
                ends.push(ends[ends.len() - 1] + frame.len());
            }
            let bytes = frames.concat();
            let mut boundary = FrameBoundary::new();
            let (mut at, mut cut) = (0, cuts.iter().cycle());
            while at < bytes.len() {
                let end = (at + cut.next().expect("endless")).min(bytes.len());
                let expected = ends.iter().rev().find(|&&place| place >= at && place <= end).map(|place| place - at);
                prop_assert_eq!(boundary.split(&bytes[at..end]), expected);
                boundary.feed(&bytes[at..end]);
                at = end;
                prop_assert_eq!(boundary.at_boundary(), ends.contains(&at));
            }
            prop_assert!(!boundary.is_closed());
        }

        #[test]
        fn noise_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let mut boundary = FrameBoundary::new();
            boundary.feed(&bytes);
            prop_assert!(boundary.split(&bytes).is_none_or(|at| at <= bytes.len()));
        }
    }
}
