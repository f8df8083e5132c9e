"""Measures of a page, run in it: each gives the list of what is wrong."""

#: Elements that reach beyond the screen, other than within what scrolls by itself.
OUTSIDE = """
[...document.querySelectorAll('body *')].filter((node) => {
  if (node.closest('.scroll, pre, .hidden, .skip, svg')) return false;
  const box = node.getBoundingClientRect();
  return box.width > 0 && (box.right > innerWidth + 1 || box.left < -1);
}).map((node) => node.outerHTML.slice(0, 120))
"""

#: Texts whose contrast with what is behind them is below 4.5 (3 where they are large): WCAG 2.2, 1.4.3.
CONTRAST = """
(() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const parse = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
  const behind = (node) => {
    const layers = [];
    for (let at = node; at; at = at.parentElement) layers.push(parse(getComputedStyle(at).backgroundColor));
    return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
  };
  const light = (rgb) => {
    const [r, g, b] = rgb.map((c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const wrong = new Set();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || node.closest('script, style, .hidden, .skip') || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const svg = node.closest('svg');
    const under = behind(svg ? svg.parentElement : node);
    const text = over(parse(svg ? style.fill : style.color), under);
    const [a, b] = [light(text), light(under)].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
    if (ratio < (large ? 3 : 4.5)) wrong.add(`${ratio.toFixed(2)} ${node.outerHTML.slice(0, 100)}`);
    if (wrong.size > 20) break;
  }
  return [...wrong];
})()
"""

#: Headings that skip a level, pages without one first heading, tables without header cells or a caption, images without a name.
STRUCTURE = """
(() => {
  const wrong = [];
  const levels = [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')]
    .filter((node) => node.classList.contains('hidden') || node.checkVisibility()).map((node) => Number(node.tagName[1]));
  if (levels.filter((level) => level === 1).length !== 1 || levels[0] !== 1) wrong.push(`first headings: ${levels.slice(0, 3)}`);
  levels.forEach((level, at) => { if (at && level > levels[at - 1] + 1) wrong.push(`heading ${level} after ${levels[at - 1]}`); });
  for (const table of document.querySelectorAll('table')) {
    if (!table.querySelector('th[scope=col]') || !table.querySelector('th[scope=row], th[scope=rowgroup]')) wrong.push('table without headers');
    if (!table.caption?.textContent.trim()) wrong.push('table without caption');
  }
  for (const svg of document.querySelectorAll('svg:not([aria-hidden])')) {
    if (svg.getAttribute('role') !== 'img' || !svg.getAttribute('aria-label')) wrong.push(svg.outerHTML.slice(0, 80));
  }
  if (!document.documentElement.lang || !document.querySelector('main')) wrong.push('no language or no main part');
  return wrong;
})()
"""

#: Controls that nobody named.
UNNAMED = """
[...document.querySelectorAll('a, button, input, select, summary')].filter((node) => {
  const labels = [...(node.labels ?? [])].map((label) => label.textContent).join('');
  return !(node.textContent + labels + (node.ariaLabel ?? '')).trim();
}).map((node) => node.outerHTML.slice(0, 100))
"""
