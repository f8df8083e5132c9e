//! `cargo xtask`: what a person types.

mod cache;
mod progress;

fn main() -> anyhow::Result<()> {
    let ctx = cache::Ctx::new()?;
    ctx.progress
        .line(&format!("cache: {}", ctx.cache.root().display()));
    Ok(())
}
