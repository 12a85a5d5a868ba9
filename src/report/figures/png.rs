//! SVG to PNG, the same on every machine: the font is part of the program.

use std::sync::Arc;

use resvg::{tiny_skia, usvg};

use crate::{Error, Result};

/// Pixels per user unit: 300 dpi if the figure is printed 7.6 inches wide.
const SCALE: f32 = 3.0;

/// Renders a drawing of this crate.
pub fn render(svg: &str) -> Result<Vec<u8>> {
    let mut options = usvg::Options { font_family: "Inter".to_owned(), ..usvg::Options::default() };
    let fonts = Arc::make_mut(&mut options.fontdb);
    fonts.load_font_data(include_bytes!("fonts/Inter-Regular.otf").to_vec());
    fonts.load_font_data(include_bytes!("fonts/Inter-SemiBold.otf").to_vec());
    // Letters of other scripts come from the fonts of the system, if it has them.
    if !svg.is_ascii() {
        fonts.load_system_fonts();
    }
    let failed = |why: &dyn std::fmt::Display| Error::failed(format!("cannot draw a figure as PNG: {why}"));
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(&error))?;
    let size = tree.size().to_int_size().scale_by(SCALE).ok_or_else(|| failed(&"it has no size"))?;
    let mut pixels = tiny_skia::Pixmap::new(size.width(), size.height()).ok_or_else(|| failed(&"it is too large"))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(&error))
}
