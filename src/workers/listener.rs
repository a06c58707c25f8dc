//! Who listens at a port of this machine, as the kernel tells in `/proc/net/tcp` (proc_pid_net(5)).

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::config::model::Address;

/// The state of a socket that listens.
const LISTEN: &str = "0A";

/// A socket that listens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Listener {
    uid: u32,
    inode: u64,
}

/// Whether what answers at the address of a worker may be it: whoever listens there is the worker's user, the gateway's,
/// or root. Another user's process that was quicker is none of these. Where the kernel does not tell, anybody is believed.
/// Blocks shortly.
///
/// # Errors
/// Who listens there instead, in words.
pub fn vouch(pid: u32, address: &Address) -> Result<(), String> {
    let Address::Tcp { port, .. } = address else { return Ok(()) };
    let found = listeners(*port);
    let Ok(worker) = fs::metadata(format!("/proc/{pid}")) else { return Ok(()) };
    let known = [0, rustix::process::geteuid().as_raw(), worker.uid()];
    match found.iter().find(|listener| !known.contains(&listener.uid)) {
        Some(stranger) => {
            let who = process_of(&[*stranger]).unwrap_or_else(|| "a process".to_owned());
            Err(format!("at port {port} {who} of user {} listens, which is not the worker", stranger.uid))
        }
        None => Ok(()),
    }
}

/// Who listens at a port: `pid 4711 (python3)`; `None` where that cannot be found out.
pub(super) fn holder(port: u16) -> Option<String> {
    process_of(&listeners(port))
}

fn listeners(port: u16) -> Vec<Listener> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| listener(line, port)).collect()
}

/// `  0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000  0 26789 …`
fn listener(line: &str, port: u16) -> Option<Listener> {
    let mut fields = line.split_whitespace();
    let (_, own) = fields.nth(1)?.rsplit_once(':')?;
    let is_it = u16::from_str_radix(own, 16).ok()? == port && fields.nth(1)? == LISTEN;
    let uid = fields.nth(3)?.parse().ok()?;
    let inode = fields.nth(1)?.parse().ok()?;
    is_it.then_some(Listener { uid, inode })
}

/// A process that has one of these sockets.
fn process_of(listeners: &[Listener]) -> Option<String> {
    if listeners.is_empty() {
        return None;
    }
    let sockets: Vec<String> = listeners.iter().map(|listener| format!("socket:[{}]", listener.inode)).collect();
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let Ok(descriptors) = fs::read_dir(entry.path().join("fd")) else { continue };
        let mut links = descriptors.flatten().filter_map(|descriptor| fs::read_link(descriptor.path()).ok());
        if links.any(|link| sockets.iter().any(|socket| link.as_os_str() == socket.as_str())) {
            let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            let name: String = name.trim_end().chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            return Some(format!("pid {pid} ({name})"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_found_with_its_process() {
        let own = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = own.local_addr().unwrap().port();
        let found = listeners(port);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].uid, rustix::process::geteuid().as_raw());
        let pid = std::process::id();
        assert!(holder(port).unwrap().starts_with(&format!("pid {pid} (")));
        assert_eq!(vouch(pid, &Address::Tcp { host: "127.0.0.1".to_owned(), port }), Ok(()));
        drop(own);
        assert_eq!((listeners(port), holder(port)), (Vec::new(), None));
    }

    #[test]
    fn only_what_listens_at_the_port_counts() {
        let line = "   1: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 26789 1";
        assert_eq!(listener(line, 8_080), Some(Listener { uid: 1_000, inode: 26_789 }));
        assert_eq!(listener(line, 8_081), None);
        assert_eq!(listener(&line.replace(" 0A ", " 01 "), 8_080), None);
        for text in ["", "sl local_address", "1: x:y 0:0 0A", "1: 0100007F:1F90 00000000:0000 0A 0:0 0:0 0 x 0 y"] {
            assert_eq!(listener(text, 8_080), None, "{text}");
        }
    }
}
