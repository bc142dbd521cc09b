//! Tells the linker to pack what the dynamic linker has to relocate at each start: a table of 24 bytes a pointer, read whole
//! and resident from then on, becomes one of bits, a fortieth of its size.

use std::{env, process::Command};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    if is_for_this_machine() && glibc().is_some_and(|version| version >= (2, 36)) {
        println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// glibc reads such a table (`DT_RELR`) from 2.36 on, and refuses the program before: where another machine's is meant, nobody
/// knows its version.
fn is_for_this_machine() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    env::var("HOST").is_ok_and(|host| is("TARGET", &host)) && is("CARGO_CFG_TARGET_ENV", "gnu")
}

/// The version of the C library here, `None` where it is another one.
fn glibc() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let told = String::from_utf8(told.stdout).ok()?;
    let (major, minor) = told.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
