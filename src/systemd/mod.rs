//! The service manager's side of the daemon: what it is told (sd_notify(3)), the sockets that it hands over
//! (sd_listen_fds(3)) and keeps (FDSTORE), and its watchdog. Without a service manager nothing here does anything.

mod message;
mod sockets;
mod watchdog;

pub use message::Manager;
pub use sockets::{Activated, Error, Protocol, Sockets};
pub use watchdog::{Sign, Watchdog};
