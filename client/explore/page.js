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
