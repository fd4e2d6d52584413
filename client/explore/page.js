// Downloads the picture or its latents, and copies the command. The buttons are those of html.py.
document.addEventListener('click', async (event) => {
  const button = event.target.closest('button.save');
  if (!button) return;
  const figure = button.closest('figure');
  if ('copy' in button.dataset) {
    await navigator.clipboard.writeText(figure.querySelector('code').textContent);
    button.textContent = 'Copied';
    setTimeout(() => { button.textContent = 'Copy command'; }, 1500);
    return;
  }
  const uri = button.dataset.uri || figure.querySelector('img').src;
  const address = URL.createObjectURL(await (await fetch(uri)).blob());
  const link = document.createElement('a');
  link.href = address;
  link.download = button.dataset.save;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 60000);
});

// Enlarges small pictures smoothly, if wanted; the browser remembers it.
const showSmooth = (isSmooth) => document.documentElement.toggleAttribute('data-smooth', isSmooth);
showSmooth(localStorage.getItem('smooth') === 'true');
document.addEventListener('change', (event) => {
  if (event.target.id !== 'smooth') return;
  localStorage.setItem('smooth', event.target.checked);
  showSmooth(event.target.checked);
});

// Keeps the address of the page a link to what is shown, and makes the tabs inert while the server is gone.
let written;
const follow = () => {
  const smooth = document.querySelector('#smooth');
  if (smooth) smooth.checked = document.documentElement.hasAttribute('data-smooth');
  const tabs = document.querySelector('#tabs');
  if (tabs) tabs.inert = document.querySelector('.down') !== null;
  const shown = document.querySelector('#picture [data-query]') || document.querySelector('#listed-tabs [data-query]');
  if (!shown) return;
  const open = document.querySelector('#tabs [role=tab][aria-selected=true]')?.dataset.tabId;
  const query = new URLSearchParams(shown.dataset.query);
  if (open && open !== 'explore') query.set('tab', open);
  const wanted = query.toString().replaceAll('%3A', ':');
  if (wanted === written) return;
  written = wanted;
  history.replaceState(history.state, '', wanted ? `?${wanted}` : location.pathname);
};
let waiting;
new MutationObserver(() => {
  if (waiting) return;
  waiting = setTimeout(() => { waiting = undefined; follow(); }, 300);
}).observe(document, {subtree: true, childList: true, attributes: true, attributeFilter: ['aria-selected']});
