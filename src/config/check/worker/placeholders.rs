//! Which placeholders the texts of a worker may have.

use crate::config::model::worker::{Listen, Piece, pieces};
use crate::config::reader::At;
use crate::config::report::Faults;
use crate::config::spelling::closest;

/// What every text of a worker may have.
const ALWAYS: [&str; 3] = ["service", "generation", "instance"];

/// The placeholders of one worker, by where it listens.
pub(super) enum Known {
    /// At ports, of these families.
    Ports(Vec<String>),
    /// At a socket.
    Socket,
    /// The path of a socket itself.
    OfSocket,
    /// At whatever the file was to say.
    Unknown,
}

impl Known {
    /// Those of command and environment.
    pub(super) fn of(listen: Option<&Listen>) -> Self {
        match listen {
            Some(Listen::Ports(ports)) => Self::Ports(ports.families.keys().cloned().collect()),
            Some(Listen::Socket(_)) => Self::Socket,
            None => Self::Unknown,
        }
    }

    /// Reports what is unknown in a text, and what its braces may not mean. Nothing is shown of one that may be secret.
    pub(super) fn check(&self, text: &At<String>, is_secret: bool, faults: &Faults) {
        let is_shown = !is_secret && faults.filled(&text.place.span).is_none();
        for name in names(&text.value) {
            if let Some((message, help)) = self.refusal(name, is_shown) {
                faults.error(&text.place, message, help);
            }
        }
        let braces = |brace| pieces(&text.value).filter(|piece| *piece == Piece::Brace(brace)).count();
        if braces("{") != braces("}") {
            let message = "`{{` stands for `{` and `}}` for `}`, and there are not as many of the one as of the other";
            faults.warn(&text.place, message, "write `{{{{` and `}}}}` for what is to reach the program doubled");
        }
    }

    fn refusal(&self, name: &str, is_shown: bool) -> Option<(String, String)> {
        let family = name.strip_prefix("port.");
        let known = self.names();
        if known.iter().any(|known| known == name) {
            return None;
        }
        let this = if is_shown { format!("{{{name}}}") } else { "a placeholder".to_owned() };
        match (self, family) {
            (Self::Unknown, _) if name == "port" || name == "socket" || family.is_some() => None,
            (Self::Socket, _) if name == "port" || family.is_some() => {
                let message = format!("{this} stands for a port, and these workers listen at a socket");
                Some((message, "write {socket}; or `base_port = 8800` in place of `socket`".to_owned()))
            }
            (Self::Ports(_), _) if name == "socket" => {
                let message = format!("{this} stands for a socket, and these workers listen at ports");
                Some((message, "write {port}; or `socket` in place of the ports".to_owned()))
            }
            (Self::Ports(families), Some(family)) => {
                let names: Vec<&str> = families.iter().map(String::as_str).collect();
                let message = format!("{this} stands for a port of a family that `ports` does not name");
                let help = match closest(family, &names) {
                    Some(meant) => format!("write {{port.{meant}}}"),
                    None if is_shown => format!("add it: `ports = {{ http = 8800, {family} = 5100 }}`"),
                    None => "add the family to `ports`".to_owned(),
                };
                Some((message, help))
            }
            _ => {
                let names: Vec<&str> = known.iter().map(String::as_str).collect();
                let message = if is_shown {
                    format!("unknown placeholder {this}")
                } else {
                    "holds an unknown placeholder".to_owned()
                };
                let help = match closest(name, &names) {
                    Some(meant) => format!("write {{{meant}}}"),
                    None => {
                        let names: Vec<_> = names.iter().map(|name| format!("{{{name}}}")).collect();
                        format!("write one of {}; or `{{{{` and `}}}}` for braces themselves", names.join(", "))
                    }
                };
                Some((message, help))
            }
        }
    }

    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = ALWAYS.map(str::to_owned).into();
        match self {
            Self::Ports(families) => {
                names.push("port".to_owned());
                names.extend(families.iter().map(|family| format!("port.{family}")));
            }
            Self::Socket => names.push("socket".to_owned()),
            Self::OfSocket | Self::Unknown => {}
        }
        names
    }
}

/// The placeholders of a text.
pub(super) fn names(text: &str) -> impl Iterator<Item = &str> {
    pieces(text).filter_map(|piece| match piece {
        Piece::Placeholder(name) => Some(name),
        Piece::Text(_) | Piece::Brace(_) => None,
    })
}
