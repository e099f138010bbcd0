// SPDX-License-Identifier: MIT
// The browser's end of a live view: shows the HTML that the kernel sent last, unless it is held.

function render({ model, el }) {
	const picture = document.createElement("div");
	const button = document.createElement("button");
	let isHeld = false;

	function draw() {
		button.textContent = isHeld ? "Resume" : "Pause";
		if (!isHeld) picture.innerHTML = model.get("html");
	}

	button.type = "button";
	button.title = "Hold the picture; what comes meanwhile is counted";
	button.addEventListener("click", () => {
		isHeld = !isHeld;
		draw();
	});
	model.on("change:html", draw);
	draw();
	el.append(button, picture);
	return () => model.off("change:html", draw);
}

export default { render };
