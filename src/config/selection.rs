//! Which configuration is meant: a file, and perhaps a profile of it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A file and a profile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// The file.
    pub file: PathBuf,
    /// The profile whose file is laid over it.
    pub profile: Option<Profile>,
}

impl Selection {
    /// `tidegate.production.toml` beside `tidegate.toml`; `None` without a profile.
    pub fn overlay(&self) -> Option<PathBuf> {
        let profile = self.profile.as_ref()?;
        let mut name = self.file.file_stem().unwrap_or_default().to_owned();
        name.push(format!(".{profile}"));
        if let Some(extension) = self.file.extension() {
            name.push(".");
            name.push(extension);
        }
        Some(self.file.with_file_name(name))
    }

    /// Whether a path is that of the file or of one of its profiles.
    pub(super) fn covers(&self, path: &Path) -> bool {
        let stem = self.file.file_stem().unwrap_or_default().as_encoded_bytes();
        let plain = |path: &Path| path.parent().map(|folder| folder.strip_prefix(".").unwrap_or(folder).to_owned());
        let mut end = self.file.extension().unwrap_or_default().as_encoded_bytes().to_vec();
        if !end.is_empty() {
            end.insert(0, b'.');
        }
        let name = path.file_name().unwrap_or_default().as_encoded_bytes();
        let middle = name.strip_prefix(stem).and_then(|rest| rest.strip_suffix(&*end));
        plain(path) == plain(&self.file) && middle.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"."))
    }
}

impl From<&Path> for Selection {
    fn from(file: &Path) -> Self {
        Self { file: file.to_owned(), profile: None }
    }
}

impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        self.profile.iter().try_for_each(|profile| write!(f, ", profile {profile}"))
    }
}

/// The name of a profile, which becomes a part of a file's name: letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile(String);

/// A text that is no profile's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a profile's name has up to 64 letters, digits, `-` and `_`, such as \"production\"")]
pub struct BadProfile;

impl FromStr for Profile {
    type Err = BadProfile;

    fn from_str(text: &str) -> Result<Self, BadProfile> {
        let tidy = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b));
        if tidy && (1..=64).contains(&text.len()) { Ok(Self(text.to_owned())) } else { Err(BadProfile) }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(file: &str) -> Selection {
        Selection { file: file.into(), profile: Some("dev".parse().unwrap()) }
    }

    #[test]
    fn the_overlay_stands_beside_the_file() {
        for (file, overlay) in [
            ("tidegate.toml", "tidegate.dev.toml"),
            ("/etc/tidegate/a.b.toml", "/etc/tidegate/a.b.dev.toml"),
            ("conf/plain", "conf/plain.dev"),
        ] {
            assert_eq!(selection(file).overlay().unwrap(), Path::new(overlay));
            assert!(selection(file).covers(Path::new(file)) && selection(file).covers(Path::new(overlay)), "{file}");
        }
        assert_eq!(Selection::from(Path::new("x.toml")).overlay(), None);
        assert!(Selection::from(Path::new("x.toml")).covers(Path::new("./x.toml")));
        for other in ["/x/other.toml", "/x/tidegate-2.toml", "/y/tidegate.toml", "/x/tidegate.toml.bak"] {
            assert!(!selection("/x/tidegate.toml").covers(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn a_profile_leaves_its_folder_never() {
        for bad in ["", ".", "..", "a/b", "a.b", "a b", "ä", &"x".repeat(65)] {
            assert_eq!(bad.parse::<Profile>(), Err(BadProfile), "{bad}");
        }
        assert_eq!("prod_EU-1".parse::<Profile>().unwrap().to_string(), "prod_EU-1");
    }
}
