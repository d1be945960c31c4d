"""How the report looks: one style sheet, system fonts, two colour schemes."""

CSS = """
:root{--ground:#fcfcfa;--ink:#26262b;--soft:#6a6a72;--line:#dddcd6;--card:#fff;--accent:#3b7dd8;--bar:#e9e8e2}
@media(prefers-color-scheme:dark){:root{--ground:#17181b;--ink:#e4e4e8;--soft:#9a9aa3;--line:#33353b;--card:#1e2024;--accent:#6aa3ee;--bar:#2c2e34}}
*{box-sizing:border-box}
body{margin:0;background:var(--ground);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
header,main,footer{max-width:72rem;margin:0 auto;padding:0 1.5rem}
header{padding-top:2.5rem}
h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;letter-spacing:-.01em}
h2{font-size:1.3rem;margin:2.6rem 0 .8rem;padding-top:.7rem;border-top:1px solid var(--line)}
p{max-width:46rem;margin:.6rem 0}
.summary{font-size:1.1rem;color:var(--soft)}
a{color:var(--accent)}
nav ul{list-style:none;display:flex;flex-wrap:wrap;gap:.2rem 1.2rem;padding:0;margin:1rem 0 0;font-size:.93rem}
.wide{overflow-x:auto}
table{border-collapse:collapse;margin:1rem 0;font-variant-numeric:tabular-nums}
caption{text-align:left;color:var(--soft);font-size:.93rem;padding-bottom:.4rem}
th,td{padding:.42rem 1.1rem .42rem 0;text-align:left;border-bottom:1px solid var(--line);vertical-align:baseline}
thead th{font-size:.87rem;color:var(--soft);font-weight:600}
tbody th{font-weight:400}
.n{text-align:right}
td.n,th.n{padding-left:.6rem}
.best th,.best td.n{font-weight:650}
.n{white-space:nowrap}
.long{overflow-wrap:anywhere;min-width:9rem}
.share span{display:inline-block;min-width:4.2rem}
.share i{display:inline-block;width:11rem;height:.62rem;margin-left:.8rem;background:var(--bar);border-radius:.31rem;overflow:hidden}
.share b{display:block;height:100%;background:var(--soft)}
.best .share b{background:var(--accent)}
figure{margin:1rem 0}
img{max-width:100%;height:auto;border-radius:.4rem;display:block}
figcaption{color:var(--soft);font-size:.93rem;margin-top:.4rem;max-width:60rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(20rem,1fr));gap:1rem}
.gallery figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:.5rem;padding:.6rem}
.gallery img{width:100%}
details{margin:.8rem 0}
details>summary{cursor:pointer;color:var(--accent)}
.tree{list-style:none;padding-left:1.2rem;margin:.2rem 0;font-size:.93rem;border-left:1px solid var(--line)}
code{font:.92em ui-monospace,Menlo,Consolas,monospace;color:var(--soft);overflow-wrap:anywhere}
footer{color:var(--soft);font-size:.87rem;margin-top:3rem;padding-bottom:2.5rem}
/* on a phone a large picture or table scrolls sideways, rather than shrink until nobody can read it */
@media(max-width:40rem){
header,main,footer{padding-left:1rem;padding-right:1rem}
th,td{padding-right:.7rem}
.n{white-space:normal}
.share{white-space:nowrap}
.share i{display:block;width:4.2rem;margin:.2rem 0 0 auto}
figure>.wide>img{max-width:max(100%,36rem)}
.gallery{grid-template-columns:1fr}
.gallery figure>.wide>img{max-width:100%}
}
@media print{nav{display:none}figure,table{break-inside:avoid}}
"""

__all__ = ["CSS"]
