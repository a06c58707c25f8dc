//! Why sessions close.

/// Why a session closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub enum Closing {
    /// No request and no tunnel for the idle timeout.
    Idle,
    /// Its maximum age.
    Age,
    /// The application deleted its cookie.
    Deleted,
    /// A rule of the file.
    EndRule,
    /// The application said so.
    Backend,
    /// Its generation was made to end.
    Drained,
    /// It was seen once only, on a detached generation, for the time that such a session has.
    Unconfirmed,
    /// It was seen once only, and the table was full.
    Evicted,
    /// Its last tunnel closed, and nothing followed in time.
    LastTunnel,
    /// Its client asked for the newest generation.
    Switched,
    /// The backend answered 404 to its id.
    NotFound,
    /// Its backend was lost: it could not be reached for too long, or was set down.
    Lost,
    /// Its backend was lost: it was a worker, whose process ended.
    WorkerLost,
    /// An operator closed it.
    Admin,
}

/// How many reasons there are.
pub(super) const CLOSINGS: usize = Closing::ALL.len();

impl Closing {
    /// All of them.
    pub const ALL: [Closing; 14] = [
        Closing::Idle,
        Closing::Age,
        Closing::Deleted,
        Closing::EndRule,
        Closing::Backend,
        Closing::Drained,
        Closing::Unconfirmed,
        Closing::Evicted,
        Closing::LastTunnel,
        Closing::Switched,
        Closing::NotFound,
        Closing::Lost,
        Closing::WorkerLost,
        Closing::Admin,
    ];

    /// The word by which metrics know it.
    pub fn as_str(self) -> &'static str {
        match self {
            Closing::Idle => "idle",
            Closing::Age => "age",
            Closing::Deleted => "deleted",
            Closing::EndRule => "end_rule",
            Closing::Backend => "backend",
            Closing::Drained => "drained",
            Closing::Unconfirmed => "unconfirmed",
            Closing::Evicted => "evicted",
            Closing::LastTunnel => "last_tunnel",
            Closing::Switched => "switched",
            Closing::NotFound => "not_found",
            Closing::Lost => "lost",
            Closing::WorkerLost => "worker_lost",
            Closing::Admin => "admin",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_its_place_and_its_word() {
        for (place, closing) in Closing::ALL.into_iter().enumerate() {
            assert_eq!(closing as usize, place);
            assert_eq!(Closing::ALL.iter().filter(|other| other.as_str() == closing.as_str()).count(), 1);
        }
    }
}
