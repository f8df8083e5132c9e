//! `cargo xtask setup`: everything that takes long, once.

use std::process::ExitCode;

use anyhow::Result;

use super::Place;
use crate::cache::Ctx;
use crate::lab::image::Image;
use crate::packages;
use crate::parts::Parts;
use crate::sdks::Sdks;

/// Install missing system packages; build kernel, images, daemon and lab host.
///
/// Safe to run again: what is there and up to date is left alone. Artefacts are kept in
/// $SANDBOXD_CACHE, else $XDG_CACHE_HOME/sandboxd, else ~/.cache/sandboxd, each under the hash
/// of what it was made from. Logs are in the cache's folder `logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only say which system packages are needed, and why.
    #[arg(long)]
    list_packages: bool,

    /// Only install the missing system packages.
    #[arg(long, conflicts_with = "list_packages")]
    packages_only: bool,
}

/// Runs `cargo xtask setup`.
///
/// # Errors
/// When something can't be installed or built.
pub fn run(ctx: &Ctx, args: &Args) -> Result<ExitCode> {
    if args.list_packages {
        for package in packages::PACKAGES {
            let mark = if package.present() {
                "ok     "
            } else {
                "missing"
            };
            println!("{mark}  {:24} {}", package.name, package.reason);
        }
        return Ok(ExitCode::SUCCESS);
    }
    packages::ensure(ctx)?;
    if !args.packages_only {
        let place = if ::doctor::report().usable {
            Place::Direct
        } else {
            Place::Lab
        };
        prepare(ctx, place)?;
        Sdks::get(ctx)?;
    }
    ctx.progress.line(&format!(
        "Set up. Everything built is in {}",
        ctx.cache.root().display()
    ));
    Ok(ExitCode::SUCCESS)
}

/// What a daemon at `place` needs.
///
/// # Errors
/// When something can't be installed or built.
pub fn prepare(ctx: &Ctx, place: Place) -> Result<Parts> {
    packages::ensure(ctx)?;
    if place == Place::Lab {
        Image::get(ctx)?;
    }
    Parts::get(ctx)
}

/// What of it cargo has no hand in, so that it can be made beside cargo. Packages must be there.
///
/// # Errors
/// When something can't be fetched or built.
pub fn materials(ctx: &Ctx, place: Place) -> Result<()> {
    if place == Place::Lab {
        Image::get(ctx)?;
    }
    Parts::materials(ctx)
}
