() => {
  // A choice of light or dark is kept in this browser; without one the system's counts.
  const kept = localStorage.getItem('faultwise-dark');
  if (kept !== null) document.body.classList.toggle('dark', kept === '1');

  const copy = async (text) => {
    try { await navigator.clipboard.writeText(text); return true; } catch { /* a page without TLS */ }
    const area = document.createElement('textarea');
    area.value = text;
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  };

  document.addEventListener('click', async (event) => {
    const button = event.target.closest('[data-copy]');
    if (button) {
      const words = button.textContent;
      button.textContent = (await copy(button.dataset.copy)) ? 'copied' : 'cannot copy';
      setTimeout(() => { button.textContent = words; }, 1500);
    }
    if (event.target.closest('#dark')) {
      const dark = document.body.classList.toggle('dark');
      localStorage.setItem('faultwise-dark', dark ? '1' : '0');
    }
  });

  // What was unfolded stays so when its part of the page is drawn anew.
  const keyOf = (details) => {
    if (details.dataset.key) return details.dataset.key;
    const place = details.closest('[id]');
    const summary = details.querySelector('summary');
    return (place ? place.id : '') + '|' + (summary ? summary.textContent.replace(/\d+/g, '') : '');
  };
  const opened = new Set();
  document.addEventListener('toggle', (event) => {
    if (event.target.tagName !== 'DETAILS' || !event.target.isConnected) return;
    if (event.target.open) opened.add(keyOf(event.target)); else opened.delete(keyOf(event.target));
  }, true);
  new MutationObserver(() => {
    document.querySelectorAll('#desk details:not([open])').forEach((details) => {
      if (opened.has(keyOf(details))) details.open = true;
    });
  }).observe(document.body, { childList: true, subtree: true });

  // Keys: / writes a question, Alt with a number opens a view, arrows go through a list.
  document.addEventListener('keydown', (event) => {
    const writing = event.target.closest('input, textarea, select, [contenteditable]');
    if (event.key === '/' && !writing) {
      event.preventDefault();
      document.querySelector('#question textarea, #question input')?.focus();
    }
    if (event.altKey && /^[1-9]$/.test(event.key)) {
      event.preventDefault();
      document.querySelectorAll('#views [role=tab]')[Number(event.key) - 1]?.click();
    }
    const row = event.target.closest('.rows button');
    if (row && (event.key === 'ArrowDown' || event.key === 'ArrowUp')) {
      event.preventDefault();
      const all = [...row.closest('.block, .panel').querySelectorAll('.rows button')];
      all[all.indexOf(row) + (event.key === 'ArrowDown' ? 1 : -1)]?.focus();
    }
    if (event.key === 'Escape' && writing) event.target.blur();
  });
}
