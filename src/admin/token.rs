//! The bearer token.

use std::fmt;
use std::hint::black_box;
use std::path::Path;

/// Shorter ones could be guessed.
const SHORTEST: usize = 16;
const LONGEST: usize = 1_024;

/// What a client has to show on TCP. Its value is never printed.
#[derive(Clone)]
pub struct Token(Box<str>);

/// Why a text is no token; the operator's to solve.
#[derive(Debug, thiserror::Error)]
pub enum BadToken {
    /// The file cannot be read.
    #[error("the token file {path} cannot be read: {error}")]
    Unreadable {
        /// The file.
        path: String,
        /// Why.
        error: std::io::Error,
    },
    /// The text is too short, too long, or has characters that a header cannot carry.
    #[error("a token has 16 to 1024 characters of ASCII letters, digits and -._~+/=")]
    Malformed,
}

impl Token {
    /// Takes a token as written, without white space around it.
    ///
    /// # Errors
    /// It is too short, too long, or not what RFC 6750 section 2.1 allows.
    pub fn new(text: &str) -> Result<Self, BadToken> {
        let text = text.trim();
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if (SHORTEST..=LONGEST).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(BadToken::Malformed)
        }
    }

    /// Reads it from a file that holds nothing else.
    ///
    /// # Errors
    /// The file cannot be read, or holds no token.
    pub fn read(path: &Path) -> Result<Self, BadToken> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| BadToken::Unreadable { path: path.display().to_string(), error })?;
        Self::new(&text)
    }

    /// The value, for the client's header.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether `offered` is this token, in a time that tells nothing about where they differ.
    pub(super) fn is(&self, offered: &[u8]) -> bool {
        let own = self.0.as_bytes();
        let difference = own.iter().zip(offered).fold(0, |sum, (one, other)| black_box(sum | (one ^ other)));
        own.len() == offered.len() && black_box(difference) == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_whole_token_is_it() {
        let token = Token::new(" 0123456789abcdef\n").unwrap();
        assert!(token.is(b"0123456789abcdef"));
        for other in ["", "0123456789abcde", "0123456789abcdef0", "0123456789abcdeg", "1123456789abcdef"] {
            assert!(!token.is(other.as_bytes()), "{other}");
        }
        assert_eq!(format!("{token:?}"), "Token(..)");
    }

    #[test]
    fn weak_or_broken_tokens_are_refused() {
        for text in
            ["", "short", "0123456789abcde\u{e9}f", "0123456789 abcdef", "0123456789\nabcdef", &"a".repeat(1_025)]
        {
            assert!(matches!(Token::new(text), Err(BadToken::Malformed)), "{text}");
        }
        let missing = Token::read(Path::new("/no/such/file")).unwrap_err().to_string();
        assert!(missing.contains("/no/such/file"));
    }
}
