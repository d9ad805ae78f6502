// Runs before anything else in each page of a workspace. Any policy that admits it admits all that it does.
(() => {
  "use strict";
  // The program shall find its document as it wrote it.
  document.currentScript?.remove();
  if (window.top !== window) return;
  const renew = () => {
    document.cookie = "__Host-user-pods-companion=1; Path=/; Max-Age=90; Secure; SameSite=Lax";
  };
  renew();
  setInterval(renew, 30_000);
})();
