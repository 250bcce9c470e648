// Bundle the application into the folder that the first argument names: app.js, style.css, index.html, licenses.txt.
import { build } from 'esbuild'
import { mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const home = dirname(fileURLToPath(import.meta.url))
const target = process.argv[2]
if (!target) throw new Error('usage: node build.mjs FOLDER')

const shared = { bundle: true, minify: true, target: 'es2022', write: false, absWorkingDir: home, logLevel: 'error', legalComments: 'none' }
// charset ascii: the script means the same in whatever encoding it is put into a page.
const script = await build({ ...shared, entryPoints: ['src/main.js'], format: 'iife', charset: 'ascii', metafile: true })
const style = await build({ ...shared, entryPoints: ['style.css'] })

// The script may be put into a page, where "</script" would end it and "<!--" change its meaning.
const text = script.outputFiles[0].text.replaceAll('</script', '<\\/script').replaceAll('<!--', '<\\!--')

// The licenses go wherever the script goes, also into a page that is passed on alone.
const terms = licenses(Object.keys(script.metafile.inputs))
const comment = terms.replaceAll('™', ' (TM)').replace(/[^\n -~]/g, '?').replaceAll('*/', '* /')

mkdirSync(target, { recursive: true })
writeFileSync(join(target, 'app.js'), `${text}/*\n${comment}*/\n`)
writeFileSync(join(target, 'style.css'), style.outputFiles[0].text)
writeFileSync(join(target, 'index.html'), readFileSync(join(home, 'index.html')))
writeFileSync(join(target, 'licenses.txt'), terms)

// The licenses of the packages that the bundle really holds.
function licenses(inputs) {
  const names = new Set(inputs.flatMap((path) => path.match(/node_modules\/((?:@[^/]+\/)?[^/]+)/)?.[1] ?? []))
  const sections = [...names].sort().map((name) => {
    const folder = join(home, 'node_modules', name)
    const { version, license, author, homepage } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
    const files = readdirSync(folder).filter((file) => /^(licen[cs]e|notice)/i.test(file)).sort()
    const by = typeof author === 'string' ? author : author?.name
    const head = [`${name} ${version}`, `License: ${license}`, by && `Author: ${by}`, homepage && `Home: ${homepage}`]
    return [...head.filter(Boolean), '', ...files.map((file) => readFileSync(join(folder, file), 'utf8').trimEnd())].join('\n')
  })
  const notice = 'TradingView Lightweight Charts™\nCopyright (c) TradingView, Inc. https://www.tradingview.com/'
  return ['This page contains the following software of others.', notice, ...sections].join(`\n\n${'-'.repeat(72)}\n\n`) + '\n'
}
