//! temporary
#[derive(Debug, clap::Args)]
pub(super) struct Args {}
pub(super) fn execute(_: Args) -> crate::Result<()> {
    Ok(())
}
