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
    /// Its backend was lost.
    Lost,
    /// An operator closed it.
    Admin,
}

/// How many reasons there are.
pub(super) const CLOSINGS: usize = 13;
