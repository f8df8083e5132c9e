// Filters, links to checks and copying. Without it the page shows everything, unfiltered.
(() => {
  'use strict';

  for (const button of document.querySelectorAll('button.copy')) {
    const code = button.parentElement.querySelector('code');
    button.hidden = false;
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(code.textContent.trim());
        button.textContent = 'Copied';
      } catch {
        getSelection().selectAllChildren(code);
        button.textContent = 'Selected';
      }
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    });
  }

  const form = document.querySelector('form.filter');
  if (!form) return;
  form.hidden = false;
  const checks = [...document.querySelectorAll('details.check')].map((node) => ({
    node,
    area: node.dataset.area,
    level: node.dataset.level,
    states: node.dataset.states.split(' '),
    differs: 'differs' in node.dataset,
    words: (node.dataset.words || '').toLowerCase(),
  }));
  const areas = [...document.querySelectorAll('section.area')];
  const said = document.querySelector('.said');
  const nothing = document.querySelector('.nothing');
  const field = (name) => form.elements.namedItem(name);
  const chips = [...form.querySelectorAll('input[name=status]')];

  const wanted = () => ({
    words: field('q').value.toLowerCase().split(/\s+/).filter(Boolean),
    area: field('profile').value,
    level: field('level').value,
    states: chips.filter((chip) => chip.checked).map((chip) => chip.value),
    differs: Boolean(field('differs')?.checked),
  });

  const fits = (check, want) =>
    (!want.area || check.area === want.area)
    && (!want.level || check.level === want.level)
    && (!want.states.length || want.states.some((state) => check.states.includes(state)))
    && (!want.differs || check.differs)
    && want.words.every((word) => check.words.includes(word));

  const apply = () => {
    const want = wanted();
    let shown = 0;
    for (const check of checks) {
      const fit = fits(check, want);
      check.node.hidden = !fit;
      shown += Number(fit);
    }
    for (const area of areas) {
      area.hidden = !area.querySelector('details.check:not([hidden])');
    }
    said.textContent = shown === checks.length ? `${shown} checks` : `${shown} of ${checks.length} checks`;
    nothing.hidden = shown > 0;
  };

  // The filter is in the address, so that a link to it can be sent.
  const keep = () => {
    const words = new URLSearchParams();
    for (const [name, value] of new FormData(form)) if (value) words.append(name, value);
    history.replaceState(null, '', words.size ? `#${words}` : location.pathname + location.search);
  };
  const load = () => {
    const hash = location.hash.slice(1);
    if (hash.startsWith('check-')) {
      const node = document.getElementById(hash);
      if (node) { node.open = true; node.scrollIntoView(); }
    } else {
      const words = new URLSearchParams(hash);
      for (const name of ['q', 'profile', 'level']) if (words.has(name)) field(name).value = words.get(name);
      for (const chip of chips) chip.checked = words.getAll('status').includes(chip.value);
      if (field('differs')) field('differs').checked = words.has('differs');
    }
    apply();
  };

  form.addEventListener('input', () => { apply(); keep(); });
  form.addEventListener('submit', (event) => event.preventDefault());
  form.addEventListener('reset', () => setTimeout(() => { apply(); keep(); }));
  form.querySelector('.expand').addEventListener('click', (event) => {
    const shown = checks.filter((check) => !check.node.hidden);
    const open = shown.some((check) => !check.node.open);
    for (const check of shown) check.node.open = open;
    event.target.textContent = open ? 'Collapse all' : 'Expand all';
  });
  addEventListener('hashchange', () => {
    load();
    if (!location.hash.startsWith('#check-')) form.scrollIntoView();
  });
  load();
})();
