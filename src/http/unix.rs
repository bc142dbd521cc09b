//! Unix sockets: never more open than asked for, never taken from a live server, removed when done.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::UnixListener,
    },
    path::{Path, PathBuf},
};

use rustix::{
    fs::{Mode, fchmod},
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind as bind_socket, connect, listen,
        socket_with,
    },
};

use super::{
    Listen,
    bind::{BACKLOG, Error},
};

/// The file of a socket we opened. Dropping it removes the file, unless another has taken its place.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    stays: bool,
}

impl SocketFile {
    /// The file at `path`, where there is a socket.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let is_socket = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.file_type().is_socket());
        let identity = identity(path).ok().filter(|_| is_socket)?;
        Some(Self { path: path.to_owned(), identity, stays: false })
    }

    /// Drops it without removing the file.
    pub(super) fn leave(mut self) {
        self.stays = true;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.stays && identity(&self.path).is_ok_and(|identity| identity == self.identity) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Opens a socket with the permissions `mode` (octal digits).
pub(super) fn bind(path: &Path, mode: &str) -> Result<(UnixListener, SocketFile), Error> {
    let failed = |error| Error::Bind { listen: Listen::Unix(path.to_owned()), error };
    let mode = digits(mode).map_err(failed)?;
    let address = SocketAddrUnix::new(path).map_err(|error| failed(error.into()))?;
    make_way(path, &address)?;
    open(path, &address, mode).map_err(failed)
}

/// Gives a socket's file the permissions `mode` (octal digits).
pub(super) fn set_mode(path: &Path, mode: &str) -> Result<(), Error> {
    digits(mode)
        .and_then(|mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)))
        .map_err(|error| Error::Bind { listen: Listen::Unix(path.to_owned()), error })
}

fn digits(mode: &str) -> io::Result<u32> {
    u32::from_str_radix(mode, 8)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "its mode is not octal digits"))
}

fn open(path: &Path, address: &SocketAddrUnix, mode: u32) -> io::Result<(UnixListener, SocketFile)> {
    let socket = new_socket()?;
    // The file takes its mode from the socket (less the umask), so it is at no time more open than asked for.
    fchmod(&socket, Mode::from_raw_mode(mode))?;
    bind_socket(&socket, address)?;
    let file = SocketFile { path: path.to_owned(), identity: identity(path)?, stays: false };
    // What the umask took away; nobody can connect yet.
    fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
    listen(&socket, BACKLOG.cast_signed())?;
    Ok((UnixListener::from(socket), file))
}

/// Removes the socket of a server that is dead.
fn make_way(path: &Path, address: &SocketAddrUnix) -> Result<(), Error> {
    let failed = |error| Error::Bind { listen: Listen::Unix(path.to_owned()), error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(Error::NotASocket { path: path.to_owned() });
        }
        Ok(_) => {}
    }
    let probe = new_socket().map_err(failed)?;
    match connect(&probe, address) {
        Err(Errno::CONNREFUSED) => {}
        // `AGAIN`: its queue is full.
        Ok(()) | Err(Errno::AGAIN) => return Err(Error::Live { path: path.to_owned() }),
        Err(error) => return Err(failed(error.into())),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(error)),
        _ => Ok(()),
    }
}

fn new_socket() -> io::Result<std::os::fd::OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}
