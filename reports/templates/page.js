"use strict";
(() => {
  const tests = [...document.querySelectorAll("details.test")];
  const reveal = () => {
    const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let node = target; node; node = node.parentElement) {
      if (node.tagName === "DETAILS") node.open = true;
      if (node.hidden) node.hidden = false;
    }
    target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#"]');
    if (link && link.hash === location.hash) reveal();
  });
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    folded.forEach((d) => { d.open = true; });
  });
  addEventListener("afterprint", () => folded.forEach((d) => { d.open = false; }));

  const form = document.querySelector(".filter");
  form.hidden = false;
  const words = tests.map((t) => t.textContent.toLowerCase());
  const filter = () => {
    const wanted = form.querySelector("[type=search]").value.toLowerCase().split(/\s+/).filter(Boolean);
    const outcomes = new Set([...form.querySelectorAll(":checked")].map((box) => box.value));
    let count = 0;
    tests.forEach((test, i) => {
      test.hidden = !outcomes.has(test.dataset.outcome) || !wanted.every((word) => words[i].includes(word));
      count += test.hidden ? 0 : 1;
    });
    for (const file of document.querySelectorAll("section.file")) {
      file.hidden = !file.querySelector("details.test:not([hidden])");
    }
    form.querySelector("output").value = count === tests.length ? "" : `${count} of ${tests.length}`;
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("click", (event) => {
    if (event.target.dataset.open === undefined) return;
    tests.forEach((test) => { if (!test.hidden) test.open = Boolean(event.target.dataset.open); });
  });

  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.hash.slice(1), a]));
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries) if (entry.isIntersecting) {
      links.forEach((a) => a.removeAttribute("aria-current"));
      links.get(entry.target.id).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-10% 0px -80% 0px" });
  links.forEach((_, id) => seen.observe(document.getElementById(id)));
  reveal();
})();
